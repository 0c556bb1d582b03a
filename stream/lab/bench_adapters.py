"""What each adapter costs: records like those of its gateway, made here, parsed in chunks as the worker has them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from stream.gateways import gateway
from stream.gateways.adapter import Options, Parse

CHUNK = 500
LEAST_SECONDS = 0.3
"""CPU time of a turn, well above the clock's grain."""
TURNS = 5
BAR = 60_000.0
LITELLM_BAR = 15_000.0
LITELLM_BYTES = 8_000
_TIME = 1_772_323_200
_LATEST = 2e9

MAPPING = """
[fields]
event_id = "request.id"
time = { path = "started_at", unit = "ms" }
key_id = "consumer.username"
model = "ai.proxy.meta.response_model"
input_tokens = "ai.proxy.usage.prompt_tokens"
output_tokens = "ai.proxy.usage.completion_tokens"
status = "response.status"
duration_ms = "latencies.request"
client_ip = "client_ip"
user_agent = "request.headers.user-agent"
"""


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """One adapter: bytes of a record, calls in it, calls and MB per second of CPU, and the least that it should do."""

    format: str
    record_bytes: int
    calls_a_record: int
    calls_a_second: float
    megabytes_a_second: float
    bar: float

    @property
    def verdict(self) -> str:
        """`ok` or `missed`."""
        return "ok" if self.calls_a_second >= self.bar else "missed"

    def as_json(self) -> dict[str, Any]:
        """The row, and its verdict."""
        return asdict(self) | {"verdict": self.verdict}


def _litellm(number: int) -> Any:
    usage = {"prompt_tokens": 120, "completion_tokens": 48, "prompt_tokens_details": {"cached_tokens": 64}}
    record = {
        "id": f"chatcmpl-{number}", "litellm_call_id": f"c-{number}", "call_type": "acompletion", "status": "success",
        "startTime": _TIME + 0.5, "endTime": _TIME + 2.0, "response_time": 1.5, "model": "openai/m-large",
        "model_group": "m-large", "prompt_tokens": 120, "completion_tokens": 48, "response_cost": 0.0021,
        "requester_ip_address": f"198.51.{number % 200}.77", "user_agent": "OpenAI/Python 1.40.0",
        "metadata": {
            "user_api_key_hash": f"key-{number % 100}", "user_api_key_org_id": "acme", "usage_object": usage,
            "requester_metadata": {"headers": {f"x-header-{index}": "value" for index in range(12)}},
        },
        "model_parameters": {"max_tokens": 256}, "hidden_params": {"additional_headers": {"a": "b"}},
        "model_map_information": {f"cost_per_token_{index}": None for index in range(60)},
    }  # fmt: skip
    missing = LITELLM_BYTES - len(json.dumps(record)) - 70
    return record | {"messages": [{"role": "user", "content": "word " * max(0, missing // 5)}]}


def _attribute(name: str, value: str | int) -> dict[str, Any]:
    return {"key": name, "value": {"stringValue": value} if isinstance(value, str) else {"intValue": str(value)}}


def _otel(number: int) -> Any:
    def span(index: int) -> dict[str, Any]:
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m-large",
            "gen_ai.response.model": "m-large-1", "gen_ai.response.id": f"resp-{number}-{index}",
            "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 48, "gen_ai.request.max_tokens": 256,
            "overdraw.key_id": f"key-{number % 100}", "tenant.id": "acme", "client.address": "198.51.100.7",
            "user_agent.original": "OpenAI/Python 1.40.0", "server.address": "api", "server.port": 443,
        }  # fmt: skip
        return {
            "traceId": f"{number:032x}", "spanId": f"{index:016x}", "name": "chat m-large", "kind": 3, "status": {},
            "startTimeUnixNano": f"{_TIME}000000000", "endTimeUnixNano": f"{_TIME + 2}000000000",
            "attributes": [_attribute(name, value) for name, value in attributes.items()],
        }  # fmt: skip

    resource = {"attributes": [_attribute("service.name", "gateway")]}
    scope = {"scope": {"name": "gateway"}, "spans": [span(index) for index in range(10)]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _apisix(number: int) -> Any:
    return {
        "start_time": _TIME * 1000 + number, "latency": 2000.5, "client_ip": "198.51.100.7", "route_id": "models",
        "consumer": {"username": f"key-{number % 100}"}, "upstream": "203.0.113.9:443", "service_id": "",
        "request": {
            "method": "POST", "uri": "/v1/chat/completions", "size": 500, "querystring": {},
            "headers": {"host": "gateway", "user-agent": "curl/8", "x-request-id": f"r-{number}", "accept": "*/*"},
        },
        "response": {"status": 200, "size": 900, "headers": {"content-type": "application/json"}},
        "llm_summary": {
            "request_model": "m-large", "model": "m-large-1", "duration": 1900, "prompt_tokens": 120,
            "completion_tokens": 48, "total_tokens": 168,
        },
    }  # fmt: skip


def _kong(number: int) -> Any:
    return {
        "started_at": _TIME * 1000, "client_ip": "198.51.100.7", "workspace_name": "default",
        "consumer": {"id": "c", "username": f"key-{number % 100}"}, "route": {"id": "r"}, "service": {"id": "s"},
        "request": {"id": f"r-{number}", "method": "POST", "uri": "/chat", "headers": {"user-agent": "curl/8"}},
        "response": {"status": 200, "size": 900, "headers": {}}, "latencies": {"kong": 10, "proxy": 90, "request": 100},
        "ai": {
            "proxy": {
                "usage": {"prompt_tokens": 120, "completion_tokens": 48, "total_tokens": 168, "cost": 0.002},
                "meta": {"request_model": "m-large", "response_model": "m-large-1", "provider_name": "openai"},
            }
        },
    }  # fmt: skip


def _envoy(number: int) -> Any:
    return {
        "start_time": "2026-03-01T00:00:00.000Z", "duration": 2000, "response_code": 200, "method": "POST",
        "x-request-id": f"r-{number}", "x-api-key-id": f"key-{number % 100}", "x-tenant-id": "acme",
        "x-forwarded-for": "198.51.100.7", "user-agent": "curl/8", "gen_ai.request.model": "m-large",
        "gen_ai.response.model": "m-large-1", "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 48,
    }  # fmt: skip


def _usage(number: int) -> Any:
    result = {
        "object": "organization.usage.completions.result", "input_tokens": 1000, "output_tokens": 500,
        "input_cached_tokens": 800, "num_model_requests": 5, "project_id": "p", "user_id": None, "model": "m-large",
    }  # fmt: skip
    results = [result | {"api_key_id": f"key-{number}-{index}"} for index in range(10)]
    return {"object": "bucket", "start_time": _TIME, "end_time": _TIME + 60, "results": results}


def _canonical(number: int) -> Any:
    return {
        "event_id": f"e-{number}", "time": _TIME, "key_id": f"key-{number % 100}", "org_id": "acme", "model": "m-large",
        "input_tokens": 120, "output_tokens": 48, "status": 200, "client_ip": "198.51.100.7", "user_agent": "curl/8",
    }  # fmt: skip


MAKERS: dict[str, tuple[Callable[[int], Any], float]] = {
    "overdraw": (_canonical, BAR),
    "litellm": (_litellm, LITELLM_BAR),
    "otel": (_otel, BAR),
    "apisix": (_apisix, BAR),
    "kong": (_kong, BAR),
    "envoy": (_envoy, BAR),
    "openai-usage": (_usage, BAR),
    "mapping": (_kong, BAR),
}
"""Format to what makes its records, and to the calls a CPU-second that it should do."""


def measure() -> Iterator[AdapterRow]:
    """A row for each format, the best of some turns, as it is done."""
    for name, (make, bar) in MAKERS.items():
        parse = gateway(name).parser(Options(mapping=MAPPING if name == "mapping" else None))
        records = [json.dumps(make(number), separators=(",", ":")).encode() for number in range(CHUNK)]
        yield _row(name, parse, records, bar)


def _row(name: str, parse: Parse, records: list[bytes], bar: float) -> AdapterRow:
    chunk = [(position, record, _LATEST) for position, record in enumerate(records)]
    calls, rejects = parse(chunk)
    if rejects:
        raise AssertionError(f"{name}: a record of the bench is refused: {rejects[0].message}")
    best = 0.0
    for _ in range(TURNS):
        times = 0
        begin = time.process_time()
        while (seconds := time.process_time() - begin) < LEAST_SECONDS:
            parse(chunk)
            times += 1
        best = max(best, times / seconds)
    size = sum(map(len, records))
    return AdapterRow(name, size // len(records), len(calls) // len(records), best * len(calls), best * size / 1e6, bar)
