"""The parts of the stack as processes, made from the very files of deploy/, and how to ask them."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import yaml

from stream.alerts import Kind
from stream.embedded.server import free_port

ROOT = Path(__file__).parent.parent.parent
OVERDRAW = (sys.executable, "-m", "stream")
TOKEN = "token-of-the-stack-test"
PARTITIONS = 4
WORKERS = 2
READY_SECONDS = 120.0
STEP_SECONDS = 1
VALUES = {"__rate_interval": "15s", "__range": "10m", "instance": ".*", "keys": ".*", "top": "5"}
"""Grafana's variables as they are when a dashboard opens."""
KEY_KINDS = {*get_args(Kind)} - {"campaign", "pivot", "respawn", "feed"}
"""What an attack on a key may be seen as: at another hour of the day another channel sees it first."""
BOARDS = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "grafana/dashboards").glob("*.json"))
}
POLL_SECONDS = 0.2


def until(what: str, condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    """Poll until it holds; AssertionError with `what` if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(POLL_SECONDS)


def get(url: str, token: str | None = None) -> tuple[int, str]:
    """Status and body; 0 where nobody answers."""
    request = Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Processes:
    """Programs that we started; each is ended by its own id, and its log shown when it dies early."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")[-4000:]

    def start(self, name: str, *command: str | Path, **environ: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.folder,
                env={**clean_environment(), **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._running.append((name, process))
        return process

    def finish(self, name: str, *command: str | Path, seconds: float, **environ: str) -> str:
        """Run to the end; its output. AssertionError with the output unless it exits with 0."""
        process = self.start(name, *command, **environ)
        code = process.wait(seconds)
        assert code == 0, f"{name} ended with {code}:\n{self.log(name)}"
        return self.log(name)

    def check(self) -> None:
        """AssertionError with its log if a program that should run has ended."""
        for name, process in self._running:
            assert process.poll() in (None, 0), f"{name} ended with {process.returncode}:\n{self.log(name)}"

    def end(self) -> None:
        for _, process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for _, process in reversed(self._running):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def clean_environment() -> dict[str, str]:
    """Ours without the settings of whoever runs the tests, and with this very checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OVERDRAW_")}
    return {**environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def broker_settings(port: int) -> dict[str, str]:
    """The broker settings of deploy/compose.yaml as server.properties, with addresses of this machine."""
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["services"]
    environment = {name: str(value) for name, value in services["kafka"]["environment"].items()}
    for elsewhere in ("KAFKA_HEAP_OPTS", "KAFKA_LOG_DIRS"):  # the start script's, and a folder of the container
        del environment[elsewhere]
    text = json.dumps({name.removeprefix("KAFKA_").lower().replace("_", "."): v for name, v in environment.items()})
    controller, host = free_port(port), free_port(port)
    for there, here in (
        ("localhost:29093", f"127.0.0.1:{controller}"),
        ("INSIDE://kafka:19092", f"INSIDE://127.0.0.1:{port}"),
        ("INSIDE://:19092", f"INSIDE://127.0.0.1:{port}"),
        ("HOST://127.0.0.1:${KAFKA_PORT:-9092}", f"HOST://127.0.0.1:{host}"),
        ("HOST://:9092", f"HOST://127.0.0.1:{host}"),
    ):
        assert there in text, f"deploy/compose.yaml no longer says {there}: adapt this table"
        text = text.replace(there, here)
    return dict(json.loads(text))


def prometheus_config(folder: Path, targets: list[str], alertmanager: str = "", **changes: str) -> Path:
    """deploy/prometheus/prometheus.yml with the token in a file of ours, and addresses for the containers' names."""
    here = ROOT / "deploy/prometheus"
    config = yaml.safe_load((here / "prometheus.yml").read_text("utf-8"))
    token = folder / "token"
    token.write_text(TOKEN, "utf-8")
    config["global"].update(changes)
    config["rule_files"] = [str(here / pattern) for pattern in config["rule_files"]]
    for job in config["scrape_configs"]:
        if "authorization" in job:
            job["authorization"]["credentials_file"] = str(token)
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "overdraw")
    if targets:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": targets}]
        config["scrape_configs"] = [job]
        config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


def alertmanager_config(folder: Path, webhook: str) -> Path:
    """deploy/prometheus/alertmanager.yml with a webhook for each receiver, and without its patience."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/alertmanager.yml").read_text("utf-8"))
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{webhook}/{receiver['name']}"}]
    for route in (config["route"], *config["route"]["routes"]):
        route["group_wait"] = route["group_interval"] = "1s"
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


class Webhook:
    """An HTTP server on loopback that keeps what Alertmanager posts: the alerts by the name of their receiver."""

    def __init__(self) -> None:
        self.alerts: list[tuple[str, Any]] = []
        kept = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                kept.extend((self.path.strip("/"), alert) for alert in message["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def end(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass(frozen=True)
class Stack:
    """Where the parts of the running stack are."""

    broker: str
    workers: list[str]
    prometheus: str
    alertmanager: str
    webhook: Webhook
    attacked: str
    since: float
    processes: Processes
    live_since: float = math.inf
    """When the traffic had come to its live part; infinite while it had not."""

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer of Prometheus's API; AssertionError with its words if it refuses."""
        status, body = get(f"{self.prometheus}/api/v1/{path}?{urlencode(parameters)}")
        assert status == 200, f"Prometheus refuses {parameters}: {body}"
        return json.loads(body)["data"]

    def instant(self, expr: str) -> list[Any]:
        """The series of an instant query, now."""
        return list(self.ask("query", query=expr, time=time.time())["result"])

    def course(self, expr: str, start: float) -> list[Any]:
        """The series of a range query from `start` (epoch seconds) up to now."""
        return list(self.ask("query_range", query=expr, start=start, end=time.time(), step=STEP_SECONDS)["result"])

    def substituted(self, expr: str) -> str:
        """An expression as Grafana sends it, with all workers and keys chosen, and the attacked key as the one key."""
        values = {**VALUES, "key": self.attacked}
        return re.sub(r"\$(\w+)", lambda found: values[found.group(1)], expr)
