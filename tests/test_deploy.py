"""deploy/ and .ci/: what is shipped to be run elsewhere is valid, closed to the outside, and fits the program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from stream.__main__ import COMMANDS
from stream.cli.simulate import command as simulate
from stream.lab.scenarios import scenarios
from stream.notify.config import read_notify_file, secrets_of
from stream.settings import Settings

ROOT = Path(__file__).parent.parent
DEPLOY, GRAFANA = ROOT / "deploy", ROOT / "grafana"
COMPOSE = DEPLOY / "compose.yaml"
SCRIPTS = Path(sysconfig.get_path("scripts"))
TOKEN = "the-token-of-this-test"
LONG_RUNNING = {"kafka", "worker", "notifier", "prometheus", "alertmanager", "grafana"}


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OVERDRAW_")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**environment, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def compose_config(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return run(SCRIPTS / "docker-compose", "-f", COMPOSE, "--profile", "demo", "config", *options, **environ)


@pytest.fixture(scope="module")
def compose() -> Any:
    done = compose_config("--format", "json", OVERDRAW_WEB_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_compose_accepts_the_file() -> None:
    done = compose_config("-q", OVERDRAW_WEB_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")


def test_compose_refuses_to_start_without_a_token_and_says_which_variable() -> None:
    done = compose_config("-q")
    assert done.returncode != 0
    assert "OVERDRAW_WEB_TOKEN" in done.stderr


def test_nothing_listens_beyond_loopback(compose: Any) -> None:
    ports = [(name, port) for name, service in compose["services"].items() for port in service.get("ports", [])]
    assert {name for name, _ in ports} == LONG_RUNNING
    assert [(name, port) for name, port in ports if port.get("host_ip") != "127.0.0.1"] == []


def test_every_image_has_a_pinned_tag(compose: Any) -> None:
    images = {service["image"] for service in compose["services"].values()} - {"overdraw:local"}
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image) for image in images), images
    assert re.search(r"^ARG BASE=python:\d+\.\d+\.\d+-slim-\w+$", (DEPLOY / "Dockerfile").read_text(), re.M)


def test_whatever_keeps_running_has_a_health_check(compose: Any) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for name in LONG_RUNNING - {"worker", "notifier"}:
        assert compose["services"][name]["healthcheck"]["test"][0] == "CMD"
    assert "HEALTHCHECK" in dockerfile
    for name in ("worker", "notifier"):
        assert "healthcheck" not in compose["services"][name], "the image's own check holds"
    assert compose["services"]["notifier"]["environment"]["OVERDRAW_WEB_PORT"] == str(Settings().notifier_port)


def test_two_workers_share_the_partitions_and_have_a_port_each_on_this_machine(compose: Any) -> None:
    worker = compose["services"]["worker"]
    assert worker["deploy"]["replicas"] == 2
    first, _, last = worker["ports"][0]["published"].partition("-")
    assert int(last) - int(first) + 1 >= 2
    assert "OVERDRAW_INSTANCE_ID" not in worker["environment"], "two of one name would end one another"


def test_no_container_fills_the_disk_with_its_log_and_ours_have_a_limit_of_memory(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        if service["image"] == "overdraw:local":
            assert int(service["mem_limit"]) <= 1 << 30


def test_the_worker_starts_only_once_the_topics_are_made(compose: Any) -> None:
    assert compose["services"]["topics"]["command"] == ["topics", "create"]
    assert compose["services"]["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"
    assert compose["services"]["worker"]["depends_on"]["topics"]["condition"] == "service_completed_successfully"


def test_only_the_demo_profile_makes_traffic(compose: Any) -> None:
    profiles = {name: service.get("profiles", []) for name, service in compose["services"].items()}
    assert profiles == {name: ["demo"] if name in ("history", "simulate") else [] for name in profiles}


def test_the_demos_commands_are_understood(compose: Any) -> None:
    keys = []
    for name in ("history", "simulate"):
        program, *arguments = compose["services"][name]["command"]
        assert program == "simulate"
        parsed = simulate.make_context("simulate", arguments)
        assert parsed.params["target"] == "kafka"
        assert parsed.params["scenario"] in scenarios()
        keys.append([parsed.params[option] for option in ("seed", "keys", "rate")])
        assert Path(parsed.params["labels"]).parent == Path("/tmp"), "all else is read-only"
    assert keys[0] == keys[1], "what was learned has to be about the keys that call now"


def test_our_containers_are_read_only_and_have_no_rights(compose: Any) -> None:
    for name in ("topics", "worker", "notifier", "history", "simulate"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    users = re.findall(r"^USER (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert users == ["65534:65534"]


def test_every_command_and_setting_that_is_named_exists(compose: Any) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    ours = [service for service in compose["services"].values() if service["image"] == "overdraw:local"]
    assert {service["command"][0] for service in ours} <= set(COMMANDS)
    named = {name for service in ours for name in service["environment"]}
    named |= set(re.findall(r"OVERDRAW_[A-Z_]+", dockerfile + (DEPLOY / "healthcheck.py").read_text()))
    unknown = {name for name in named if name.removeprefix("OVERDRAW_").lower() not in Settings.model_fields}
    assert named
    assert unknown == set()


def test_the_token_reaches_the_worker_and_prometheus_and_nobody_else(compose: Any) -> None:
    holders = {name for name, service in compose["services"].items() if TOKEN in json.dumps(service)}
    assert holders == {"worker", "notifier"}
    readers = {name for name, service in compose["services"].items() if service.get("secrets")}
    assert readers == {"prometheus"}
    assert compose["secrets"]["overdraw_web_token"]["environment"] == "OVERDRAW_WEB_TOKEN"
    scrape = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    assert scrape["authorization"]["credentials_file"] == "/run/secrets/overdraw_web_token"


def test_the_notifier_reads_a_file_that_is_understood_and_needs_no_secret(compose: Any) -> None:
    service = compose["services"]["notifier"]
    (mounted,) = service["volumes"]
    assert service["environment"]["OVERDRAW_NOTIFY_FILE"] == mounted["target"]
    assert mounted["read_only"]
    config = read_notify_file(DEPLOY / "notify.toml")
    assert all(secrets_of(config, name, {}) == {} for name in config.notifiers)
    host, _, port = urlsplit(config.notifiers["am"].url).netloc.partition(":")
    assert {one["target"] for one in compose["services"][host]["ports"]} == {int(port)}
    scrape = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (job,) = (job for job in scrape if job["job_name"] == "overdraw-notifier")
    assert job["static_configs"] == [{"targets": [f"notifier:{Settings().notifier_port}"]}]


def test_prometheus_scrapes_the_workers_port_at_the_pace_that_grafana_assumes(compose: Any) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "overdraw")
    assert job["dns_sd_configs"][0]["names"] == ["worker"]
    assert job["dns_sd_configs"][0]["port"] == Settings().web_port
    assert {port["target"] for port in compose["services"]["worker"]["ports"]} == {Settings().web_port}
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    assert source["url"] == "http://prometheus:9090"


def test_grafana_finds_its_provisioning_and_the_dashboard_that_alerts_link_to(compose: Any) -> None:
    mounts = {Path(v["source"]): v["target"] for v in compose["services"]["grafana"]["volumes"] if v["type"] == "bind"}
    assert mounts == {
        GRAFANA / "provisioning": "/etc/grafana/provisioning",
        GRAFANA / "dashboards": "/etc/overdraw/dashboards",
    }
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/overdraw.yml").read_text())["providers"][0]
    assert provider["options"]["path"] == "/etc/overdraw/dashboards"
    uid = json.loads((GRAFANA / "dashboards/overdraw-key.json").read_text())["uid"]
    assert compose["services"]["worker"]["environment"]["OVERDRAW_DASHBOARD_URL"].endswith(f"/d/{uid}")


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = run(SCRIPTS / "hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_all_that_the_dockerfile_copies_exists_and_reaches_the_builder() -> None:
    admitted = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    sources = {source for line in copies for source in line.split()}
    assert sources == admitted
    assert [source for source in sources if not (ROOT / source).exists()] == []


@contextmanager
def worker_that_answers(code: int, seen: list[str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_response(code)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield str(server.server_port)
        finally:
            server.shutdown()
            thread.join()


def health_check(port: str) -> subprocess.CompletedProcess[str]:
    script = DEPLOY / "healthcheck.py"
    return run(sys.executable, script, OVERDRAW_WEB_PORT=port, OVERDRAW_WEB_TOKEN=TOKEN)


def test_the_health_check_asks_with_the_token() -> None:
    seen: list[str] = []
    with worker_that_answers(200, seen) as port:
        done = health_check(port)
    assert (done.returncode, done.stderr) == (0, "")
    assert seen == [f"/healthz Bearer {TOKEN}"]


def test_the_health_check_fails_on_an_unhealthy_worker_and_on_none() -> None:
    with worker_that_answers(503, []) as port:
        unhealthy = health_check(port)
    gone = health_check(port)
    assert (unhealthy.returncode, gone.returncode) == (1, 1)
    assert "503" in unhealthy.stderr
    assert "refused" in gone.stderr
    assert TOKEN not in unhealthy.stderr + gone.stderr


@pytest.mark.parametrize("name", ["run", "install-prometheus"])
def test_ci_scripts_parse_and_stop_at_the_first_failure(name: str) -> None:
    done = run("bash", "-n", ROOT / ".ci" / name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "set -euo pipefail" in (ROOT / ".ci" / name).read_text()
