"""deploy/gateways: every configuration is well formed, and names what the adapters read."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from stream.gateways import GATEWAYS, gateway
from stream.gateways.adapter import Options
from stream.gateways.envoy import NAMES, Line
from stream.gateways.otel import OTel
from stream.settings import Settings

PAGES = Path(__file__).parent.parent / "deploy" / "gateways"
FORMATS = sorted(GATEWAYS.keys() - {"overdraw", "csv"})
PROMPTS = re.compile(r"messages|prompt\b|payload|body", re.IGNORECASE)


def documents(path: Path) -> list[object]:
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document is not None]


@pytest.mark.parametrize("format", FORMATS)
def test_every_gateway_has_a_page_and_a_configuration(format: str) -> None:
    folder = PAGES / format
    page = (folder / "README.md").read_text("utf-8")
    assert f"({format}/README.md)" in (PAGES / "README.md").read_text("utf-8")
    assert f"OVERDRAW_INTAKE_FORMAT={format}" in page
    if format != "mapping":
        assert re.search(r"prompt", page, re.IGNORECASE), "what is not to be sent"
    files = [path.name for path in folder.iterdir() if path.name != "README.md"]
    assert files
    for name in files:
        assert name in page or f"({name})" in page or name in ("vector.yaml", "config.yaml")


@pytest.mark.parametrize("path", sorted(PAGES.glob("*/*.yaml")), ids=lambda path: path.parent.name + "/" + path.name)
def test_a_yaml_file_is_one(path: Path) -> None:
    assert documents(path)


def test_every_setting_that_a_page_names_exists() -> None:
    elsewhere = {"OVERDRAW_CONFIG"}
    for page in PAGES.rglob("*.md"):
        for name in re.findall(r"OVERDRAW_[A-Z_]+", page.read_text("utf-8")):
            assert name in elsewhere or name.removeprefix("OVERDRAW_").lower() in Settings.model_fields, page


def test_links_lead_somewhere() -> None:
    for page in PAGES.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), (page, target)


def test_apisix_logs_summaries_and_no_payloads() -> None:
    plugins = json.loads((PAGES / "apisix" / "route.json").read_text("utf-8"))["plugins"]
    assert plugins["ai-proxy"]["logging"] == {"summaries": True, "payloads": False}
    assert not plugins["kafka-logger"]["include_req_body"]
    assert not plugins["kafka-logger"]["include_resp_body"]


def test_kong_logs_statistics_and_no_payloads() -> None:
    (document,) = documents(PAGES / "kong" / "kong.yaml")
    plugins = {p["name"]: p["config"] for p in document["services"][0]["routes"][0]["plugins"]}  # type: ignore[index]
    assert plugins["ai-proxy"]["logging"] == {"log_statistics": True, "log_payloads": False}


def test_envoys_log_has_the_names_that_are_read_and_no_others() -> None:
    proxy = documents(PAGES / "envoy" / "gateway.yaml")[0]
    (setting,) = proxy["spec"]["telemetry"]["accessLog"]["settings"]  # type: ignore[index]
    logged = set(setting["format"]["json"])
    read = set(NAMES.values()) | {"start_time", "duration", "response_code", "gateway"}
    assert logged <= read
    assert len(Line.__struct_fields__) == len(read)
    assert {"x-request-id", "x-api-key-id", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"} <= logged


def test_the_collector_keeps_what_is_read_and_no_prompts() -> None:
    (document,) = documents(PAGES / "otel" / "collector.yaml")
    statements = document["processors"]["transform/no_prompts"]["trace_statements"]  # type: ignore[index]
    kept = set(re.findall(r'"([^"]+)"', statements[0]["statements"][0]))
    read = set(OTel()._wanted)
    assert kept == read | {"gen_ai.provider.name"}
    assert not [name for name in kept if PROMPTS.search(name) and "tokens" not in name]
    assert 'set(status.message, "")' in statements[0]["statements"]
    exporter = document["exporters"]["kafka"]  # type: ignore[index]
    assert exporter["traces"]["encoding"] == "otlp_json"
    assert exporter["retry_on_failure"] == {"max_elapsed_time": 0}, "else it drops what waits for five minutes"


def test_the_mapping_shows_every_option_and_can_be_used() -> None:
    text = (PAGES / "mapping" / "gateway.toml").read_text("utf-8")
    assert tomllib.loads(text)["fields"].keys() >= {"event_id", "time", "key_id"}
    record = {
        "request": {"id": "r", "model": "m", "headers": {"user-agent": "curl/8"}},
        "response": {"status": 200, "model": "m-1"},
        "finished_at": 1_772_323_202_000,
        "auth": {"consumer": {"name": "jack"}},
        "usage": {"tokens.prompt": 0, "tokens.completion": 0},
        "took": 2.5,
        "price_cents": 21,
    }
    [(_, time, call)], rejects = gateway("mapping").parser(Options(mapping=text))(
        [(0, json.dumps(record).encode(), 2e9)]
    )
    assert rejects == []
    assert (time, call.key_id, call.duration_ms, call.cost_usd) == (1_772_323_202.0, "jack", 2500.0, 0.21)
    assert (call.input_tokens, call.output_tokens) == (None, None)


def test_the_litellm_configuration_names_our_callback_alone() -> None:
    (document,) = documents(PAGES / "litellm" / "config.yaml")
    assert document["litellm_settings"]["callbacks"] == ["stream.litellm.handler"]  # type: ignore[index]


def test_the_script_is_a_script_and_keeps_the_key_out_of_arguments() -> None:
    script = PAGES / "openai-usage" / "fetch.sh"
    assert subprocess.run(["sh", "-n", script], check=False, timeout=20).returncode == 0
    assert not [line for line in script.read_text("utf-8").splitlines() if "-H" in line and "KEY" in line]
