"""deploy/gateways on the gateways themselves, as far as package indexes have them: `make gateways-check`.

A real Envoy writes the access log of our configuration, Vector's own language runs our program over it, and a real
Collector brings spans to a real Kafka.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml

from stream.broker import EmbeddedKafka
from stream.embedded.server import free_port
from stream.gateways import gateway
from stream.gateways.adapter import Options
from stream.lab.chaos.topics import records_of
from stream.settings import load_settings
from stream.worker.cluster import cluster
from tests.gateways.fixtures import FIXTURES

pytestmark = pytest.mark.optin

ROOT = Path(__file__).parent.parent.parent
PAGES = ROOT / "deploy" / "gateways"
TOOLS = ROOT / ".tools"
CACHE = load_settings().data_dir
READY_SECONDS = 120.0
KEY = "SECRET-marker-1"
TYPES = "type.googleapis.com/envoy.extensions"
FILTER = """
-- what the AI gateway's processor does: the model of the request, the counts of the answer
function envoy_on_request(handle)
  if handle:headers():get("x-model") then
    handle:headers():replace("x-ai-eg-model", handle:headers():get("x-model"))
  end
end
function envoy_on_response(handle)
  if handle:headers():get(":status") ~= "200" then return end
  local told = handle:streamInfo():dynamicMetadata()
  told:set("io.envoy.ai_gateway", "response_model", "m-large-1")
  told:set("io.envoy.ai_gateway", "llm_input_token", 1200)
  told:set("io.envoy.ai_gateway", "llm_output_token", 48)
end
"""


def needed(path: Path) -> Path:
    if not path.exists():
        pytest.fail(f"there is no {path.relative_to(ROOT)}: run `make gateways-check`, which installs it")
    return path


def until(what: str, condition: Callable[[], Any], seconds: float = READY_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def post(url: str, body: bytes, **headers: str) -> int | None:
    """The HTTP status; None while nobody listens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(url, body, named), timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except OSError:
        return None


@contextmanager
def model_server() -> Iterator[int]:
    """Answers whatever it is asked; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def running(*command: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen([*map(str, command)], stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


# ---------------------------------------------------------------------- Envoy, and what Vector makes of its lines


def bootstrap(port: int, upstream: int, log: Path) -> dict[str, Any]:
    """What Envoy Gateway makes of `gateway.yaml`: its format of the log, and authentication by key."""
    documents = list(yaml.safe_load_all((PAGES / "envoy" / "gateway.yaml").read_text("utf-8")))
    by_kind = {document["kind"]: document["spec"] for document in documents}
    (setting,) = by_kind["EnvoyProxy"]["telemetry"]["accessLog"]["settings"]
    auth = by_kind["SecurityPolicy"]["apiKeyAuth"]
    assert by_kind["Gateway"]["infrastructure"]["parametersRef"]["name"] == documents[0]["metadata"]["name"]

    def typed(name: str, kind: str, **said: Any) -> dict[str, Any]:
        return {"name": name, "typed_config": {"@type": f"{TYPES}.{kind}", **said}}

    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    theirs = {"socket_address": {"address": "127.0.0.1", "port_value": upstream}}
    filters = [
        typed(
            "auth",
            "filters.http.api_key_auth.v3.ApiKeyAuth",
            credentials=[{"key": KEY, "client": "team-search"}],
            key_sources=[{"header": header} for source in auth["extractFrom"] for header in source["headers"]],
            forwarding={"header": auth["forwardClientIDHeader"], "hide_credentials": auth["sanitize"]},
        ),
        typed("ai", "filters.http.lua.v3.Lua", default_source_code={"inline_string": FILTER}),
        typed("router", "filters.http.router.v3.Router"),
    ]
    manager = typed(
        "http",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="models",
        use_remote_address=True,
        access_log=[
            typed(
                "log",
                "access_loggers.file.v3.FileAccessLog",
                path=str(log),
                log_format={"json_format": setting["format"]["json"]},
            )
        ],
        route_config={
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "model"}}]}
            ]
        },
        http_filters=filters,
    )
    endpoint = {"cluster_name": "model", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": theirs}}]}]}
    return {
        "static_resources": {
            "listeners": [{"name": "models", "address": address, "filter_chains": [{"filters": [manager]}]}],
            "clusters": [{"name": "model", "type": "STATIC", "connect_timeout": "5s", "load_assignment": endpoint}],
        }
    }


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What a real Envoy logs of a plain call, one whose client claims to be another, and one with a wrong key."""
    program = needed(TOOLS / "gateways" / "envoy" / "_bin" / "envoy")
    program.chmod(0o755)  # an installation into a folder may have lost it
    folder = tmp_path_factory.mktemp("envoy")
    log, port = folder / "access.log", free_port()
    with model_server() as upstream:
        (folder / "bootstrap.json").write_text(json.dumps(bootstrap(port, upstream, log)))
        # 0: Envoys on one machine share memory by this number, unless each has its own
        options = ("--concurrency", "1", "--use-dynamic-base-id", "-l", "warning")
        with running(program, "-c", folder / "bootstrap.json", *options, log=folder / "envoy.log") as envoy:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            body = b'{"messages": [{"content": "PROMPT-marker"}]}'

            def answers() -> bool:
                assert envoy.poll() is None, (folder / "envoy.log").read_text()
                return post(url, body) == 401

            until("Envoy answers", answers)
            call = {"x_api_key": KEY, "x_model": "m-large", "user_agent": "curl/8", "x_forwarded_for": "198.51.100.200"}
            assert post(url, body, **call) == 200
            assert post(url, body, **call, x_api_key_id="somebody-else", x_request_id="mine", x_tenant_id="acme") == 200
            assert post(url, body, **{**call, "x_api_key": "sk-SECRET-marker-2"}) == 401
            # Envoy writes its log every ten seconds
            until("the log", lambda: log.exists() and log.read_bytes().count(b"\n") >= 4)
    return log.read_bytes().splitlines()


def test_what_a_real_envoy_logs_is_read_and_a_client_cannot_be_another(lines: list[bytes]) -> None:
    text = b"".join(lines)
    assert b"marker" not in text, "neither prompts nor keys"
    calls, rejects = gateway("envoy").parser(Options())([(number, line, 4e9) for number, line in enumerate(lines)])
    assert [call.key_id for _, _, call in calls] == ["team-search", "team-search"]
    first, second = (call for _, _, call in calls)
    assert (first.input_tokens, first.output_tokens, first.status) == (1200, 48, 200)
    assert (first.model, first.requested_model, first.org_id, second.org_id) == ("m-large-1", "m-large", None, "acme")
    assert first.event_id != second.event_id
    assert not second.event_id.startswith("mine"), "at the edge Envoy makes ids of its own"
    assert first.gateway
    assert abs(first.time - time.time()) < 3600
    assert first.client_ip is not None
    assert not first.client_ip.startswith("198.51.100."), "what a client claims of its address"
    assert {reject.reason for reject in rejects} == {"not_a_call"}, "a wrong key never got as far as a model"


def test_vectors_program_passes_calls_on_and_leaves_the_rest_out(lines: list[bytes]) -> None:
    needed(TOOLS / "gateways" / "pyvrl")
    transform = yaml.safe_load((PAGES / "envoy" / "vector.yaml").read_text("utf-8"))["transforms"]["lines"]
    assert transform["drop_on_abort"] is transform["drop_on_error"] is True
    messages = [*(line.decode() for line in lines), "[2026-03-01][warning] not a line of the log", "[]"]
    done = subprocess.run(
        [sys.executable, "-c", VECTOR],
        input=json.dumps([transform["source"], messages]),
        env={"PYTHONPATH": str(TOOLS / "gateways")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    passed = json.loads(done.stdout)
    assert passed == [json.loads(line) for line in lines if b"team-search" in line]
    assert len(passed) == 2


VECTOR = """
import json, sys
from pyvrl import Transform
source, messages = json.load(sys.stdin)
transform = Transform(source + "\\n.")
passed = []
for message in messages:
    try:
        passed.append(transform.remap({"message": message, "kubernetes": {"pod_name": "envoy-1"}}))
    except Exception:
        pass
print(json.dumps(passed))
"""


# ---------------------------------------------------------------------- a Collector

SPANS = [f for f in FIXTURES if f.format == "otel" and "resourceSpans" in f.record]
TOPIC = "gateway-spans"


def with_secrets(record: dict[str, Any]) -> dict[str, Any]:
    """The record with what must not leave the machine in every place of a span that has room for it."""
    record = json.loads(json.dumps({"resourceSpans": record["resourceSpans"]}))
    for batch in record["resourceSpans"]:
        for span in (span for scope in batch["scopeSpans"] for span in scope["spans"]):
            said = [{"key": "gen_ai.prompt", "value": {"stringValue": "PROMPT-marker"}}]
            span.setdefault("attributes", []).extend(said)
            span["events"] = [{"name": "gen_ai.content.prompt", "timeUnixNano": "1", "attributes": said}]
            span["status"] = {**span.get("status", {}), "message": "cannot answer PROMPT-marker"}
    return record


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(cache_dir=CACHE) as broker:
        yield broker


async def test_a_real_collector_brings_spans_to_kafka_without_prompts(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    program = needed(TOOLS / "bin" / "otelcol")
    settings = load_settings({"broker": kafka.bootstrap, "partitions": 1}, environ={})
    async with cluster(settings) as admin:
        error, words = await admin.create(TOPIC, 1, 1, {})
        assert error == 0, words
    text = (PAGES / "otel" / "collector.yaml").read_text("utf-8")
    http = free_port()
    for ours, theirs in (("kafka:9092", kafka.bootstrap), (":4317", f":{free_port()}"), (":4318", f":{http}")):
        assert ours in text
        text = text.replace(ours, theirs)
    (tmp_path / "collector.yaml").write_text(text)
    log = tmp_path / "collector.log"
    with running(program, "--config", tmp_path / "collector.yaml", log=log) as collector:
        url = f"http://127.0.0.1:{http}/v1/traces"

        def answers() -> bool:
            assert collector.poll() is None, log.read_text()
            return post(url, b"{}", content_type="application/json") == 200

        until("the Collector answers", answers)
        for fixture in SPANS:
            body = json.dumps(with_secrets(fixture.record)).encode()
            assert post(url, body, content_type="application/json") == 200, fixture
    # it has written what it holds before it ends
    records = [bytes(record.value) for record in await records_of(settings, TOPIC)]
    assert records, log.read_text()
    assert b"marker" not in b"".join(records)
    calls, rejects = gateway("otel").parser(Options())([(0, value, 4e9) for value in records])
    names = ("event_id", "key_id", "org_id", "model", "input_tokens", "output_tokens", "status", "client_ip")
    found = [{name: getattr(call, name) for name in names} for _, _, call in calls]
    for expected in (call for fixture in SPANS if not fixture.options.key_from for call in fixture.calls):
        wanted = {name: expected[name] for name in names if name in expected}
        assert any(wanted.items() <= call.items() for call in found), wanted
    # no attribute says whose it was, or one that is not in the list; a count below zero
    assert {reject.reason for reject in rejects} == {"missing_field", "out_of_range"}, "what is no call stays behind"
