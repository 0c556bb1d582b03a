"""The chart through helm itself, and what it renders to through kubeconform: `make helm-check`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "deploy" / "helm"))

import chart  # noqa: E402  it lies beside the chart

pytestmark = pytest.mark.optin

TOOLS = ROOT / ".tools" / "bin"
KUBERNETES = ("1.27", "1.31", "1.37")
THEIRS = ("ScaledObject", "ServiceMonitor")
"""Kinds of others: tests/test_chart.py holds them against their own types."""


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    path = TOOLS / program
    if not path.exists():
        pytest.fail(f"there is no {path.relative_to(ROOT)}: run `make helm-check`, which builds it")
    return subprocess.run(
        [str(path), *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def values(case: str) -> tuple[str, ...]:
    return ("--values", f"{chart.CHART}/ci/{case}-values.yaml")


@pytest.mark.parametrize("case", chart.CASES)
def test_helm_lint_finds_nothing(case: str) -> None:
    done = run("helm", "lint", "--strict", "--kube-version", chart.KUBERNETES, chart.CHART, *values(case))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", chart.CASES)
def test_the_manifests_that_the_fast_tests_look_at_are_what_helm_makes(case: str) -> None:
    shown = (chart.RENDERED / f"{case}.yaml").read_text("utf-8")
    assert chart.rendered(TOOLS / "helm", case) == shown, "run `make chart`, and look at the diff"


def test_the_rules_are_those_of_deploy_prometheus_and_link_to_where_the_values_say() -> None:
    places = {"overdraw_grafana": "https://grafana.example", "overdraw_runbooks": "https://runbooks.example/overdraw"}
    options = [
        f"--set=prometheusRule.{name}={value}"
        for name, value in zip(("grafanaUrl", "runbooksUrl"), places.values(), strict=True)
    ]
    done = run(
        *("helm", "template", "overdraw", chart.CHART, "--kube-version", chart.KUBERNETES),
        *("--show-only", "templates/prometheusrule.yaml", "--set=prometheusRule.enabled=true", *options),
    )
    assert done.returncode == 0, done.stderr
    expected = []
    for path in sorted((ROOT / "deploy/prometheus").glob("rules-*.yml")):
        text = path.read_text("utf-8")
        for name, value in places.items():
            text = text.replace(f"{{{{ $externalLabels.{name} }}}}", value)
        assert "externalLabels" not in text, "an address that the chart does not know of"
        expected += yaml.safe_load(text)["groups"]
    assert yaml.safe_load(done.stdout)["spec"]["groups"] == expected


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kubernetes' schemas of kubernetes-validate, one file a kind with all that it needs, as kubeconform reads them."""
    folder = tmp_path_factory.mktemp("schemas")
    names = {file_name(each) for case in chart.CASES for each in documents(case) if each["kind"] not in THEIRS}
    for version in KUBERNETES:
        source = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{version}.0-local-strict"
        out = folder / f"v{version}.0"
        out.mkdir()
        held = json.loads(local(source / "_definitions.json"))["$defs"]
        for name in names:
            schema = {**json.loads(local(source / name)), "$defs": held}
            (out / name).write_text(json.dumps(schema), "utf-8")
    return folder


def local(path: Path) -> str:
    """A schema whose references stay inside the file: they name a server that there is not."""
    return path.read_text("utf-8").replace("/api/_definitions.json#/", "#/")


def file_name(manifest: dict[str, str]) -> str:
    """As kubeconform has it: kind, the first word of the group, version."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    return "-".join(part for part in (manifest["kind"].lower(), group.partition(".")[0], version) if part) + ".json"


def documents(case: str) -> list[dict[str, str]]:
    return [each for each in yaml.safe_load_all((chart.RENDERED / f"{case}.yaml").read_text("utf-8")) if each]


def conform(schemas: Path, version: str, manifest: Path) -> subprocess.CompletedProcess[str]:
    place = f"{schemas}/v{version}.0/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    options = ("-strict", "-summary", "-skip", ",".join(THEIRS), "-kubernetes-version", f"{version}.0")
    return run("kubeconform", *options, "-schema-location", place, manifest)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("case", chart.CASES)
def test_kubeconform_finds_nothing(schemas: Path, case: str, version: str) -> None:
    done = conform(schemas, version, chart.RENDERED / f"{case}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Invalid: 0, Errors: 0" in done.stdout


def test_kubeconform_finds_a_field_that_there_is_not(schemas: Path, tmp_path: Path) -> None:
    workers = next(each for each in documents("default") if each["kind"] == "StatefulSet")
    path = tmp_path / "spoilt.yaml"
    path.write_text(yaml.safe_dump(workers).replace("readinessProbe:", "readynessProbe:"), "utf-8")
    done = conform(schemas, KUBERNETES[1], path)
    assert done.returncode == 1
    assert "readynessProbe" in done.stdout


REFUSED = [
    (("settings.broker=kafka",), 'settings.broker has "kafka": it must be host:port'),
    (("replicas=9",), "replicas is 9, and settings.partitions 8"),
    (("autoscaling.enabled=true", "autoscaling.maxReplicas=9"), "lower maxReplicas"),
    (("autoscaling.enabled=true", "autoscaling.minReplicas=9"), "autoscaling.minReplicas is 9, above maxReplicas 8"),
    (("settings.partitons=8",), "partitons"),
    (("settings.web_token=secret-in-plain-text",), "web_token"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[row[0][-1] for row in REFUSED])
def test_wrong_values_are_refused_with_what_is_wrong(changes: tuple[str, ...], words: str) -> None:
    options = [f"--set={change}" for change in changes]
    done = run("helm", "template", "overdraw", chart.CHART, "--kube-version", chart.KUBERNETES, *options)
    assert done.returncode != 0
    assert words in done.stderr
    assert "secret-in-plain-text" not in done.stderr
