"""The notify file: what is wrong with it is named, and a secret stands nowhere in it and in nothing that is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from services import KEY, config_of, environ_of, made_alert

from stream.alerts import Entity
from stream.notify.config import NotifyConfig, NotifyFileError, Route, SlackConfig, read_notify_file, secrets_of
from stream.notify.hold import HOLD_HOURS
from stream.notify.routing import Routing
from stream.notify.services import NOTIFIERS
from stream.notify.tomlfile import MAX_FILE_BYTES

PD = '[notifiers.pd]\ntype = "pagerduty"\nrouting_key_env = "PD_KEY"\n'


def read(tmp_path: Path, text: str | bytes) -> NotifyConfig:
    path = tmp_path / "notify.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_notify_file(path)


@pytest.mark.parametrize(
    ("text", "words", "why"),
    [
        ("", ["notifiers", "required"], "nothing in it"),
        ("[notifiers.pd", ["is no TOML", "Expected"], "broken TOML"),
        (b"\xff\xfe", ["is not UTF-8"], "another encoding"),
        (b"#" * (MAX_FILE_BYTES + 1), ["larger than"], "another file"),
        ('[notifiers.pd]\ntype = "pager"\n', ["notifiers.pd", "pagerduty"], "a type that there is not"),
        (
            f'{PD}routing_key = "{KEY}"\n',
            ["routing_key", "routing_key_file or routing_key_env"],
            "a secret in the file",
        ),
        (f'[notifiers.s]\ntype = "slack"\nurl = "https://h/{KEY}"\n', ["url_file or url_env"], "another one"),
        (PD + 'colour = "red"\n', ["notifiers.pd.colour", "no such key"], "a typo"),
        (PD + 'routing_key_file = "f"\n', ["not both"], "two sources"),
        ('[notifiers."A b"]\ntype = "slack"\nurl_env = "X"\n', ["notifiers.A b", "match"], "a name with a blank"),
        (
            '[notifiers.w]\ntype = "webhook"\nurl = "ftp://h"\n',
            ["notifiers.w.url", "https://host/path"],
            "no web address",
        ),
        (f'[notifiers.w]\ntype = "webhook"\nurl = "https://u:{KEY}@h/"\n', ["no user or password"], "a password in it"),
        ('[notifiers.a]\ntype = "alertmanager"\n', ["notifiers.a.url", "required"], "no address"),
        (
            '[notifiers.a]\ntype = "alertmanager"\nurl = "http://a"\nlabels = {fingerprint = "x"}\n',
            ["label fingerprint is ours"],
            "a label of ours",
        ),
        (PD + '[[routes]]\nnotify = ["nobody"]\n', ["route 1", "'nobody'", "known are pd"], "an unknown name"),
        (PD + '[[routes]]\nnotify = ["pd"]\nowner = ["acme"]\n', ["route 1", "'acme'", "[owners]"], "unknown owner"),
        (PD + '[[routes]]\nnotify = ["pd"]\nseverity = ["loud"]\n', ["routes.0.severity", "critical"], "no severity"),
        (PD + "burst = -1\n", ["notifiers.pd.burst"], "below its limit"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_a_secret(
    tmp_path: Path, text: str | bytes, words: list[str], why: str
) -> None:
    with pytest.raises(NotifyFileError) as caught:
        read(tmp_path, text)
    for word in words:
        assert word in str(caught.value), why
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotifyFileError, match=r"cannot read the notify file .*absent.toml: No such file"):
        read_notify_file(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "there is no variable PD_KEY in the environment"),
        ({"PD_KEY": "  "}, "PD_KEY is empty"),
        ({"PD_KEY": f"{KEY} {KEY}"}, "holds blanks"),
        ({"PD_KEY": f"{KEY}\r\nX-Header: 1"}, "line breaks"),
        ({"PD_KEY": f"{KEY}ü"}, "other than ASCII"),
    ],
)
def test_a_secret_that_cannot_be_used_is_said_and_not_shown(
    tmp_path: Path, environ: dict[str, str], words: str
) -> None:
    with pytest.raises(NotifyFileError) as caught:
        secrets_of(read(tmp_path, PD), "pd", environ)
    assert words in str(caught.value)
    assert "notifier pd" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    text = f'[notifiers.pd]\ntype = "pagerduty"\nrouting_key_file = "{tmp_path / "key"}"\n'
    secrets = secrets_of(read(tmp_path, text), "pd", {})
    assert secrets["routing_key"].get_secret_value() == KEY
    assert KEY not in repr(secrets)
    (tmp_path / "key").unlink()
    with pytest.raises(NotifyFileError, match=r"cannot read .*key: No such file"):
        secrets_of(read(tmp_path, text), "pd", {})


@pytest.mark.parametrize("kind", ["pagerduty", "slack", "webhook"])
def test_a_notifier_without_its_credentials_says_which(tmp_path: Path, kind: str) -> None:
    config = read(tmp_path, f'[notifiers.n]\ntype = "{kind}"\n')
    with pytest.raises(NotifyFileError, match=r"notifier n: it has no (routing_key|url): say"):
        secrets_of(config, "n", {})


def test_an_address_that_is_a_secret_is_checked_and_not_shown(tmp_path: Path) -> None:
    config = read(tmp_path, '[notifiers.s]\ntype = "slack"\nurl_env = "HOOK"\n')
    with pytest.raises(NotifyFileError) as caught:
        secrets_of(config, "s", {"HOOK": f"hooks.slack.com/{KEY}"})
    assert "https://host/path" in str(caught.value)
    assert KEY not in str(caught.value)


def test_no_secret_is_shown_by_what_holds_the_file() -> None:
    config = config_of("http://127.0.0.1:1")
    shown = repr(config) + config.model_dump_json()
    assert all(secret not in shown for secret in environ_of("http://127.0.0.1:1").values())


# ---------------------------------------------------------------------- who is told


def test_the_example_of_the_readme_is_sound_and_names_all_keys(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    example = text.split("## Tell people", 1)[1].split("```toml\n", 1)[1].split("```", 1)[0]
    config = read(tmp_path, example)
    models: list[type[BaseModel]] = [NotifyConfig, Route, *(type(one) for one in config.notifiers.values())]
    assert {one.type for one in config.notifiers.values()} == set(NOTIFIERS)
    for model in models:
        for key in model.model_fields:
            noun = key.removesuffix("_file").removesuffix("_env")
            assert re.search(rf"\b{noun}(_file|_env)?\b", example), key
    most = SlackConfig.model_json_schema()["properties"]["hold_hours"]["anyOf"][0]["maximum"]
    assert f"`hold_hours` ({HOLD_HOURS:g}, at most {most:g})" in text


def routed(routes: list[dict[str, Any]] | None, **changes: Any) -> list[str]:
    config = config_of("http://127.0.0.1:1").model_dump(mode="json") | {"routes": routes}
    return Routing(NotifyConfig.model_validate(config)).names(made_alert(**changes))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"severity": "critical"}, ["am", "pd", "chat", "bus"]),
        ({"severity": "high"}, ["am", "pd", "chat", "bus"]),
        ({"severity": "warning"}, ["chat", "bus"]),
        ({"severity": "info"}, []),
        ({"severity": "critical", "historical": True}, []),
    ],
)
def test_without_routes_a_page_goes_to_all_a_ticket_to_channels_and_a_backlog_to_nobody(
    changes: dict[str, Any], names: list[str]
) -> None:
    assert routed(None, **changes) == names


@pytest.mark.parametrize(
    ("route", "changes", "told"),
    [
        ({}, {"severity": "high"}, True),
        ({}, {"severity": "warning"}, False),
        ({"severity": ["info"]}, {"severity": "info"}, True),
        ({"kind": ["feed"]}, {"kind": "surge"}, False),
        ({"kind": ["feed", "surge"]}, {"kind": "surge"}, True),
        ({"historical": True}, {"historical": True}, True),
        ({"owner": ["acme"]}, {"key": "acme-7"}, True),
        ({"owner": ["acme"]}, {"key": "other"}, False),
        ({"owner": ["acme"]}, {"entity": Entity(type="network", id="acme-7")}, False),
    ],
)
def test_a_route_leads_to_its_notifiers_if_all_its_conditions_are_met(
    route: dict[str, Any], changes: dict[str, Any], told: bool
) -> None:
    assert routed([{"notify": ["pd"], **route}], **changes) == (["pd"] if told else [])


def test_all_routes_that_match_count_and_nobody_is_told_twice() -> None:
    routes = [{"notify": ["pd"]}, {"notify": ["bus", "pd"], "kind": ["surge"]}, {"notify": ["chat"], "kind": ["feed"]}]
    assert routed(routes) == ["pd", "bus"]
    assert routed([]) == []


def test_where_incidents_are_silenced_is_set_or_the_first_alertmanagers_page() -> None:
    config = config_of("http://127.0.0.1:1")
    assert config.silence_base() == "http://127.0.0.1:1"
    assert config.model_copy(update={"silence_url": "https://am/"}).silence_base() == "https://am"
