"""`overdraw schema`: the published shapes are those of the contract, and those that are used."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from click.testing import CliRunner

from stream.__main__ import cli
from stream.alerts import Alert, Kind, Severity, Status
from stream.events import ApiCall
from stream.settings import Settings


def schema(what, *options):
    result = CliRunner().invoke(cli, ["schema", what, *options])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("what", ["event", "alert", "control", "settings", "metrics"])
def test_each_schema_is_json(what):
    assert isinstance(json.loads(schema(what)), dict)


@pytest.mark.parametrize("what", ["event", "alert", "settings", "metrics"])
def test_each_has_a_table_for_the_readme(what):
    lines = schema(what, "--table").splitlines()
    assert lines[1] == "| " + " | ".join(["---"] * lines[0].count(" | ")) + " | --- |"
    assert len(lines) > 10
    assert {line.replace("\\|", "").count("|") for line in lines} == {lines[0].count("|")}


def test_an_event_needs_an_id_a_time_and_a_key():
    event = json.loads(schema("event"))
    assert set(event["required"]) == {"event_id", "time", "key_id"}
    assert set(event["properties"]) == set(ApiCall.model_fields)
    assert event["properties"]["key_id"]["maxLength"] == 256
    assert event["properties"]["event_id"]["maxLength"] == 128
    assert event["properties"]["time"]["anyOf"] == [{"type": "string", "format": "date-time"}, {"type": "number"}]
    assert all("description" in field for field in event["properties"].values())


def test_an_alert_has_every_field_of_the_contract():
    alert = json.loads(schema("alert"))
    assert set(alert["properties"]) == set(Alert.model_fields)
    contract = {
        "alert_id", "fingerprint", "sequence", "status", "severity", "severity_reason", "kind", "entity",
        "started_at", "detected_at", "updated_at", "resolved_at", "window", "observed", "expected", "upper",
        "ratio", "unit", "z", "score", "false_alarm_probability", "excess_tokens", "excess_output_tokens",
        "excess_per_hour", "excess_cost_usd", "channels", "shape", "members", "baseline", "historical",
        "data_quality", "summary", "suggested_action", "links", "config_digest", "schema_version",
    }  # fmt: skip
    assert contract <= set(alert["properties"])
    assert alert["properties"]["status"]["enum"] == list(get_args(Status))
    assert alert["properties"]["severity"]["enum"] == list(get_args(Severity))
    assert alert["properties"]["kind"]["enum"] == list(get_args(Kind))
    assert alert["properties"]["started_at"]["type"] == "string", "RFC 3339 outside"


def test_settings_show_their_defaults_and_no_path_of_this_machine():
    text = schema("settings")
    settings = json.loads(text)
    assert set(settings["properties"]) == set(Settings.model_fields)
    assert settings["properties"]["bucket_seconds"]["default"] == 300
    assert settings["properties"]["web_token"].get("default") is None
    assert Settings().data_dir not in text


def test_an_unknown_schema_names_the_known_ones():
    result = CliRunner().invoke(cli, ["schema", "evnt"])
    assert result.exit_code == 2
    assert "'event', 'alert', 'control', 'settings', 'metrics'" in result.output
