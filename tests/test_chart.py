"""deploy/helm: what the chart renders to is valid, closed, and fits the program. `make helm-check` runs helm itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator

from stream.__main__ import COMMANDS
from stream.settings import Settings, load_settings
from stream.worker.server import OPEN_PATHS

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "deploy" / "helm"))

import chart  # noqa: E402  it lies beside the chart

VALUES = yaml.safe_load((chart.CHART / "values.yaml").read_text("utf-8"))
TEMPLATES = {
    path: path.read_text("utf-8") for path in sorted(chart.CHART.rglob("templates/**/*")) if path.suffix == ".yaml"
}
KUBERNETES = ("1.27", "1.31", "1.37")
"""The oldest that Chart.yaml admits, and newer ones."""
FOREIGN = ("ScaledObject", "ServiceMonitor")
"""Kinds that Kubernetes does not know."""
PACKAGES = ("@kubernetes-models/keda@0.4.2", "@kubernetes-models/prometheus-operator@4.4.4")
NPM_SECONDS, NODE_SECONDS = 240, 60


def manifests(case: str) -> list[Any]:
    return [each for each in yaml.safe_load_all((chart.RENDERED / f"{case}.yaml").read_text("utf-8")) if each]


ALL = [(case, each) for case in chart.CASES for each in manifests(case)]


def named(item: tuple[str, Any]) -> str:
    return f"{item[0]}-{item[1]['kind']}"


def one(case: str, kind: str, name: str = "overdraw") -> Any:
    every = [each for each in manifests(case) if each["kind"] == kind]
    found = [each for each in every if each["metadata"]["name"] == name] if len(every) > 1 else every
    assert len(found) == 1
    return found[0]


def pods(case: str) -> Iterator[Any]:
    """The specification of every pod."""
    for each in manifests(case):
        if each["kind"] == "Pod":
            yield each["spec"]
        elif "template" in each.get("spec", {}):
            yield each["spec"]["template"]["spec"]


def variables(pod: Any) -> dict[str, Any]:
    (container,) = pod["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_what_is_made_is_up_to_date() -> None:
    assert chart.SCHEMA.read_text("utf-8") == chart.schema_text(), "run `.venv/bin/python deploy/helm/chart.py`"
    for case in chart.CASES:
        first = (chart.RENDERED / f"{case}.yaml").read_text("utf-8").splitlines()[0]
        assert first.endswith(chart.digest()), "the chart has changed since: run `make chart`, and look at the diff"


@pytest.mark.parametrize("item", ALL, ids=named)
def test_kubernetes_own_schemas_accept_every_manifest(item: tuple[str, Any]) -> None:
    _, manifest = item
    if manifest["kind"] not in FOREIGN:
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_kubernetes_own_schemas_refuse_a_misspelt_field() -> None:
    spoilt = one("default", "StatefulSet")
    spoilt["spec"]["podManagmentPolicy"] = spoilt["spec"].pop("podManagementPolicy")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, KUBERNETES[-1], strict=True)


@pytest.fixture(scope="module")
def types() -> Path:
    """A folder with the types of KEDA and the Prometheus operator, kept in the user's cache."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not on the PATH: the types of KEDA and the Prometheus operator are npm packages")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "overdraw" / "kubernetes-types-{}".format("-".join(p.rpartition("@")[2] for p in PACKAGES))
    if not (folder / "node_modules" / ".package-lock.json").exists():  # npm writes it last
        folder.mkdir(parents=True, exist_ok=True)
        options = ("--prefix", folder, "--no-audit", "--no-fund", "--save-exact", "--loglevel", "error")
        done = subprocess.run(
            [npm, "install", *options, *PACKAGES], capture_output=True, text=True, timeout=NPM_SECONDS, check=False
        )
        assert done.returncode == 0, f"npm could not install {PACKAGES}:\n{done.stdout}\n{done.stderr}"
    return folder


def complaints(types: Path, manifests: list[Any]) -> list[str]:
    """What the types say against the manifests, by kind; an empty text is no complaint."""
    script = """
        const monitoring = require('@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1');
        const models = {
          ScaledObject: require('@kubernetes-models/keda/keda.sh/v1alpha1').ScaledObject,
          ServiceMonitor: monitoring.ServiceMonitor,
          PrometheusRule: monitoring.PrometheusRule,
        };
        for (const manifest of JSON.parse(require('fs').readFileSync(0, 'utf8'))) {
          const typed = new models[manifest.kind](manifest);
          let said = '';
          try { typed.validate(); } catch (error) { said = error.message; }
          console.log(JSON.stringify(said));
        }"""
    done = subprocess.run(
        ["node", "-e", script],
        cwd=types,
        input=json.dumps(manifests),
        capture_output=True,
        text=True,
        timeout=NODE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def rules() -> Any:
    """deploy/prometheus as the chart makes a PrometheusRule of it."""
    files = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(chart.CHART.glob("prometheus/rules-*.yml"))]
    groups = [group for each in files for group in each["groups"]]
    assert groups
    about = {"name": "overdraw"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": about,
        "spec": {"groups": groups},
    }


def test_the_types_of_keda_and_the_prometheus_operator_accept_theirs(types: Path) -> None:
    theirs = [*(one("full", kind) for kind in FOREIGN), rules()]
    assert complaints(types, theirs) == [""] * len(theirs)


def test_the_types_of_keda_and_the_prometheus_operator_refuse_what_is_wrong(types: Path) -> None:
    scaled, monitor = (one("full", kind) for kind in FOREIGN)
    spoilt = rules()
    spoilt["spec"]["groups"][0]["rules"][0]["for"] = "15 minutes"
    scaled["spec"]["triggers"][0]["metadata"]["lagThreshold"] = 500000
    monitor["spec"]["endpoints"][0]["authorization"]["credentials"] = "the-token-itself"
    assert "" not in complaints(types, [scaled, monitor, spoilt])


# ---------------------------------------------------------------------- values


def problems(values: Any) -> list[str]:
    schema = json.loads(chart.SCHEMA.read_text("utf-8"))
    Draft7Validator.check_schema(schema)
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(values)]


@pytest.mark.parametrize("case", ["", *chart.CASES])
def test_the_values_that_are_shipped_fit_their_schema(case: str) -> None:
    own = yaml.safe_load((chart.CHART / f"ci/{case}-values.yaml").read_text("utf-8")) if case else {}
    assert problems({**VALUES, **own}) == []


def test_every_value_is_in_the_schema_and_every_part_of_the_schema_is_a_value() -> None:
    schema = json.loads(chart.SCHEMA.read_text("utf-8"))["properties"]
    assert set(schema) - {"global"} == set(VALUES)
    for name, part in schema.items():
        if name not in ("settings", "resources") and "properties" in part:
            assert set(part["properties"]) == set(VALUES[name]), name


def test_a_fraction_may_be_text_as_helms_own_flag_makes_it() -> None:
    given = {"flush_seconds": "0.25", "false_pages_per_week": 0.5, "backlog_seconds": 60}
    assert problems({**VALUES, "settings": {**VALUES["settings"], **given}}) == []
    (problem,) = problems({**VALUES, "settings": {**VALUES["settings"], "flush_seconds": "soon"}})
    assert "flush_seconds" in problem


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("a setting that does not exist", {"settings": {**VALUES["settings"], "partitons": 3}}, "partitons"),
    ("a setting out of its bounds", {"settings": {**VALUES["settings"], "partitions": 0}}, "partitions"),
    ("a setting that the chart sets", {"settings": {**VALUES["settings"], "instance_id": "x"}}, "instance_id"),
    ("a secret among the settings", {"settings": {**VALUES["settings"], "web_token": "x"}}, "web_token"),
    ("a secret in plain text", {"secrets": {"web_token": "x"}}, "secrets.web_token"),
    ("no token at all", {"secrets": {}}, "web_token"),
    (
        "a secret that is no setting",
        {"secrets": {**VALUES["secrets"], "pasword": {"name": "a", "key": "b"}}},
        "pasword",
    ),
    ("no worker", {"replicas": 0}, "replicas"),
    ("a node that can never be drained", {"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
    ("scaling to nothing", {"autoscaling": {"minReplicas": 0}}, "minReplicas"),
    ("an end within less than a worker may take", {"terminationGracePeriodSeconds": 5}, "terminationGracePeriod"),
    ("a value that does not exist", {"replicaCount": 3}, "replicaCount"),
]


@pytest.mark.parametrize(("changed", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_the_schema_refuses(changed: dict[str, Any], words: str) -> None:
    (problem,) = problems({**VALUES, **changed})
    assert words in problem


# ---------------------------------------------------------------------- what is rendered


@pytest.mark.parametrize("case", chart.CASES)
def test_a_worker_understands_the_settings_that_it_is_handed(case: str) -> None:
    for pod in pods(case):
        given = {name: value if isinstance(value, str) else "by-reference" for name, value in variables(pod).items()}
        given.pop("OVERDRAW_HOLIDAYS_FILE", None)  # it lies in the user's ConfigMap
        settings = load_settings(environ=given)
        wanted = {**VALUES["settings"], **(yaml.safe_load(values_of(case)) or {}).get("settings", {})}
        wanted.pop("holidays_file", None)
        assert {name: getattr(settings, name) for name in wanted} == wanted


def values_of(case: str) -> str:
    return (chart.CHART / f"ci/{case}-values.yaml").read_text("utf-8")


def test_each_ordinal_is_a_static_member_of_the_group() -> None:
    (pod,) = (pod for pod in pods("default") if pod["containers"][0]["name"] == "worker")
    assert variables(pod)["OVERDRAW_INSTANCE_ID"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    others = [pod for pod in pods("default") if pod["containers"][0]["name"] != "worker"]
    assert len(others) == 2
    assert all("OVERDRAW_INSTANCE_ID" not in variables(pod) for pod in others), "a guest must not fence a worker"


@pytest.mark.parametrize("case", chart.CASES)
def test_secrets_are_given_by_reference_alone(case: str) -> None:
    for pod in pods(case):
        for name, value in variables(pod).items():
            if name.removeprefix("OVERDRAW_").lower() in chart.secret_names():
                assert set(value) == {"secretKeyRef"}
    assert not any(each["kind"] == "Secret" for each in manifests(case))


@pytest.mark.parametrize("case", chart.CASES)
def test_pods_have_no_rights_and_write_nowhere_but_in_tmp(case: str) -> None:
    for pod in pods(case):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "OVERDRAW_SERVICE_HOST would be an unknown setting"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(image_user())
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert writable == ["/tmp"]
        assert "memory" in container["resources"]["limits"]
        assert container["args"][0] in COMMANDS


def image_user() -> str:
    (user,) = re.findall(r"^USER (\d+):\d+$", (ROOT / "deploy/Dockerfile").read_text("utf-8"), re.M)
    return str(user)


def test_the_probes_ask_what_needs_no_token_at_the_port_that_is_served() -> None:
    worker = one("default", "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    (port,) = worker["ports"]
    assert port["containerPort"] == Settings().web_port
    probes = {name: worker[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["path"] for probe in probes.values()} == OPEN_PATHS
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert probes["readiness"]["path"] == "/readyz"
    assert probes["liveness"]["path"] == "/healthz", "a worker that waits for its broker must not be killed for it"
    assert one("default", "Service")["spec"]["ports"][0]["targetPort"] == port["name"]


@pytest.mark.parametrize("case", chart.CASES)
def test_every_selector_finds_the_workers_and_only_what_it_should(case: str) -> None:
    worker = one(case, "StatefulSet")["spec"]
    labels = worker["template"]["metadata"]["labels"]
    others = [each for each in manifests(case) if each["kind"] in ("Job", "Pod")]
    guests = [each["spec"].get("template", each)["metadata"]["labels"] for each in others]
    for selector in (
        worker["selector"]["matchLabels"],
        one(case, "Service")["spec"]["selector"],
        one(case, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
        assert not any(selector.items() <= guest.items() for guest in guests)
    policy = one(case, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert all(policy.items() <= each.items() for each in (labels, *guests)), "guests need the broker, too"
    assert worker["serviceName"] == one(case, "Service")["metadata"]["name"]


def test_brokers_can_be_reached_on_the_ports_that_the_setting_names() -> None:
    names, kafka = one("default", "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in names["ports"]] == [53, 53]
    assert [port["port"] for port in kafka["ports"]] == [9092]
    *_, wanted, extra = one("full", "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in wanted["ports"]] == [9092, 9094, 9095]
    assert extra["ports"] == [{"port": 443, "protocol": "TCP"}]


def test_lag_of_the_very_group_and_topics_scales_the_workers() -> None:
    scaled, workers = one("full", "ScaledObject")["spec"], one("full", "StatefulSet")
    assert scaled["scaleTargetRef"] == {
        "apiVersion": workers["apiVersion"],
        "kind": workers["kind"],
        "name": workers["metadata"]["name"],
    }
    assert "replicas" not in workers["spec"], "two would set it"
    given = yaml.safe_load(values_of("full"))["settings"]
    triggers = [trigger["metadata"] for trigger in scaled["triggers"]]
    assert [trigger["topic"] for trigger in triggers] == [Settings().source_topic, given["intake_topic"]]
    assert {trigger["consumerGroup"] for trigger in triggers} == {given["app_id"]}
    assert scaled["minReplicaCount"] >= 1
    assert scaled["maxReplicaCount"] <= given["partitions"]


def test_the_monitor_authorises_with_the_same_token_as_the_worker() -> None:
    (endpoint,) = one("full", "ServiceMonitor")["spec"]["endpoints"]
    worker = one("full", "StatefulSet")["spec"]["template"]["spec"]
    token = variables(worker)["OVERDRAW_WEB_TOKEN"]["secretKeyRef"]
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": token}
    assert endpoint["port"] == one("full", "Service")["spec"]["ports"][0]["name"]


def test_a_notifier_gets_its_file_and_its_secrets_as_files_and_reaches_its_services() -> None:
    assert not any("notifier" in each["metadata"]["name"] for each in manifests("default")), "who wants none has none"
    spec = one("full", "Deployment")["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {
        mount["mountPath"]: (volumes[mount["name"]], mount.get("readOnly")) for mount in container["volumeMounts"]
    }
    given = yaml.safe_load(values_of("full"))["notifier"]
    folder, _, name = variables(pod)["OVERDRAW_NOTIFY_FILE"].rpartition("/")
    assert name == "notify.toml"
    assert mounts[folder] == ({"name": "notify", "configMap": {"name": given["configMap"]}}, True)
    secrets, read_only = mounts["/run/secrets/overdraw"]
    assert (secrets["secret"]["secretName"], read_only) == (given["secret"], True)
    assert container["args"] == ["notifier"]
    assert container["ports"] == [{"name": "http", "containerPort": Settings().notifier_port}]
    service = one("full", "Service", "overdraw-notifier")["spec"]
    assert service["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    assert service["ports"] == [{"name": "http", "port": Settings().notifier_port, "targetPort": "http"}]
    policy = one("full", "NetworkPolicy", "overdraw-notifier")["spec"]
    assert policy["egress"] == given["egress"]
    assert policy["podSelector"]["matchLabels"] == spec["selector"]["matchLabels"]
    worker = one("full", "StatefulSet")["spec"]
    assert not spec["selector"]["matchLabels"].items() <= worker["template"]["metadata"]["labels"].items()


def test_the_chart_has_the_version_of_the_program() -> None:
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text("utf-8"))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (version,) = re.findall(r'^version = "(.+)"$', project, re.M)
    assert str(about["appVersion"]) == version
