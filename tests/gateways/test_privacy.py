"""Traits, pseudonyms, and that what must not be stored is cut wherever records come by."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from stream.cli.pseudonym import command as pseudonym
from stream.events import Call
from stream.gateways import options_of, parser_of, pseudonyms_of
from stream.gateways.canonical import canonical, cut, hidden, records_of
from stream.gateways.overdraw import parse
from stream.gateways.pseudonyms import Pseudonyms
from stream.gateways.traits import REDUCED, client_of, network_of_hops, reduce_traits, template_of
from stream.settings import Settings, SettingsError, load_settings
from stream.worker.keying import key_records
from tests.gateways.fixtures import FIXTURES
from tests.worker.fakes import Record

SECRET = "0123456789abcdef"
T0 = 1_772_323_200.0
FULL = {
    "event_id": "e", "time": T0, "key_id": "ID-marker-key", "org_id": "ID-marker-org", "user_id": "ID-marker-user",
    "client_ip": "203.0.113.77", "user_agent": "UA-marker/1", "prompt_fingerprint": "PROMPT-marker",
    "prompt": "PROMPT-marker", "messages": [{"content": "PROMPT-marker"}],
}  # fmt: skip
MARKERS = ("PROMPT-marker", "203.0.113.77", "UA-marker", "SECRET-marker")


@given(st.text(max_size=60))
def test_a_trait_of_a_trait_is_itself(text: str) -> None:
    functions: list[Callable[[str], str | None]] = [*REDUCED.values(), network_of_hops]
    for function in functions:
        once = function(text)
        if once is not None:
            assert function(once) == once
            assert len(once) < 64
            assert once.isascii()


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        ("OpenAI/Python 1.40.0", "openai-python"),
        ("AsyncOpenAI/Python 1.40.0", "openai-python"),
        ("OpenAI/JS 4.2", "openai"),
        ("curl/8.5.0", "curl"),
        ("Mozilla/5.0 (X11)", "mozilla"),
        ("sk-SECRET-marker", "client"),
        ("someone@example.org's tool", "client"),
    ],
)
def test_a_client_is_named_only_if_many_know_it(agent: str, family: str) -> None:
    found = client_of(agent)
    assert found is not None
    assert found.rpartition("-")[0] == family
    assert found == client_of(f"  {agent.upper()} "), "case and blanks make no other client"


@pytest.mark.parametrize(
    ("hops", "network"),
    [
        ("8.8.4.4", "8.8.4.0/24"),
        ("1.1.1.1, 8.8.4.4, 10.0.0.1", "8.8.4.0/24"),
        ("8.8.4.4:4711", "8.8.4.0/24"),
        ("[2001:4860::1]:443", "2001:4860::/48"),
        ("2001:4860::1", "2001:4860::/48"),
        ("10.1.2.3, 192.168.0.1", "192.168.0.0/24"),
        ("unknown, -", None),
        ("1.1.1.1," + "x," * 50_000, None),
    ],
)
def test_the_client_is_the_last_public_hop(hops: str, network: str | None) -> None:
    assert network_of_hops(hops) == network


def test_a_template_is_never_what_the_gateway_sent() -> None:
    assert template_of("write me a poem about PROMPT-marker") != template_of("another")
    assert "PROMPT" not in (template_of("write me a poem about PROMPT-marker") or "")


# ---------------------------------------------------------------------- pseudonyms


def test_a_pseudonym_depends_on_secret_role_and_id_alone() -> None:
    one, other = Pseudonyms(b"a" * 16), Pseudonyms(b"b" * 16)
    names = [p.of(role, text) for p in (one, other) for role in ("key", "org", "user") for text in ("x", "y", "")]
    assert len(set(names)) == len(names)
    assert one.of("key", "x") == Pseudonyms(b"a" * 16).of("key", "x")
    assert {name[:4] for name in names} == {one.tag, other.tag}
    with pytest.raises(ValueError, match="openssl rand"):
        Pseudonyms(b"short")


@given(st.text(max_size=300))
def test_every_id_has_a_pseudonym_that_is_an_id(text: str) -> None:
    name = Pseudonyms(b"a" * 16).of("key", text)
    assert len(name) == 29
    assert name.isascii()


def test_the_secret_comes_from_the_environment_or_a_file_and_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(SECRET + "\n")
    by_file = load_settings({"pseudonym_key_file": str(path)}, environ={})
    by_name = load_settings(environ={"OVERDRAW_PSEUDONYM_KEY": SECRET})
    for settings in (by_file, by_name):
        assert settings.pseudonym_secret == SECRET.encode()
        assert SECRET not in repr(settings) + settings.model_dump_json() + str(settings.model_dump())
    for wrong, words in (
        ({"pseudonym_key": SECRET}, "others can read it there"),
        ({"pseudonym_key_file": str(tmp_path / "none")}, "cannot read"),
    ):
        with pytest.raises(SettingsError, match=words) as error:
            load_settings(wrong, environ={})
        assert SECRET not in str(error.value)
    path.write_text("short")
    with pytest.raises(SettingsError, match="openssl rand"):
        load_settings({"pseudonym_key_file": str(path)}, environ={})
    with pytest.raises(SettingsError, match="leave one out"):
        load_settings({"pseudonym_key_file": str(path)}, environ={"OVERDRAW_PSEUDONYM_KEY": SECRET})


def test_the_command_prints_what_the_intake_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERDRAW_PSEUDONYM_KEY", SECRET)
    answer = CliRunner().invoke(pseudonym, ["ID-marker-key", "--json"])
    name = json.loads(answer.stdout)["pseudonym"]
    assert CliRunner().invoke(pseudonym, [], input="a\n\nID-marker-key\r\n").stdout.splitlines()[1].startswith(name)
    (row,) = keyed(json.dumps(FULL).encode(), Settings(pseudonym_key=SECRET))[0]
    assert row["key_id"] == name
    monkeypatch.delenv("OVERDRAW_PSEUDONYM_KEY")
    assert CliRunner().invoke(pseudonym, ["x"]).exit_code == 2


# ---------------------------------------------------------------------- on every way


def keyed(value: bytes, settings: Settings) -> tuple[list[Any], list[Any]]:
    """What the intake makes of a record: events, and dead letters."""
    record = Record(0, value, int(T0 * 1000))
    done = key_records([record], topic="raw", identity=b"i", partitions=4, now=T0, parse=parser_of(settings))
    rows = [row for rows in done.keyed.values() for row in rows]
    for key, event, *_ in rows:
        assert json.loads(event or b"")["key_id"].encode() == key
    return [json.loads(row[1] or b"") for row in rows], [json.loads(row[1] or b"") for row in done.letters]


BROKEN = [
    pytest.param({"time": "noon"}, id="refused for its time"),
    pytest.param({"input_tokens": -1}, id="refused for a count"),
    pytest.param({"key_id": ""}, id="refused for its key"),
    pytest.param({"event_id": {"prompt": "PROMPT-marker"}}, id="refused for its id"),
    pytest.param({"org_id": ["ID-marker-org"]}, id="refused for an id of a wrong type"),
    pytest.param({}, id="accepted"),
]


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("change", BROKEN)
def test_the_intake_writes_no_marker(change: dict[str, Any], secret: str | None) -> None:
    for document in (FULL | change, [FULL | change, 17, "PROMPT-marker"]):
        value = json.dumps(document).encode()
        events, letters = keyed(value, Settings(pseudonym_key=secret))
        written = json.dumps([events, letters])
        assert events or letters
        for marker in (*MARKERS, *(["ID-marker"] if secret else [])):
            assert marker not in written, marker


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("fixture", FIXTURES, ids=str)
def test_the_intake_of_every_format_writes_no_marker(fixture: Any, secret: str | None, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(fixture.options.mapping or "")
    chosen: dict[str, Any] = {"intake_format": fixture.format, "pseudonym_key": secret}
    if fixture.options.mapping is not None:
        chosen["intake_mapping_file"] = str(mapping)
    chosen["intake_key_from"] = ",".join(fixture.options.key_from)
    settings = Settings(**chosen)
    assert options_of(settings) == fixture.options
    for value in (fixture.value, fixture.value[:-1], b"[" + fixture.value + b",17]"):
        events, letters = keyed(value, settings)
        written = json.dumps([events, letters])
        ids = ["9f2c", "acme", '"jack"', '"key-1"', "cred-7", "proj-1", '"user-1"'] if secret else []
        for marker in (*MARKERS, "198.51.100.200", *ids):
            assert marker not in written, marker


@pytest.mark.parametrize("change", BROKEN)
def test_what_feed_stores_has_no_marker_and_means_the_same(change: dict[str, Any]) -> None:
    value = json.dumps(FULL | change).encode()
    kept = cut(value)
    for marker in MARKERS:
        if marker != "PROMPT-marker" or "event_id" not in change:
            assert marker.encode() not in kept
    for one, other in zip(parse([(0, value, 2e9)]), parse([(0, kept, 2e9)]), strict=True):
        assert [repr(x[2]) if isinstance(x, tuple) else (x.reason, x.message) for x in one] == [
            repr(x[2]) if isinstance(x, tuple) else (x.reason, x.message) for x in other
        ]


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"17", b"[]", b'{"key_id": "k", "time":1.7e9,  "event_id": "e"}', b'[{"model": "m"}, 3]', b"\xff"],
)
def test_what_needs_no_cut_stays_as_it_is(value: bytes) -> None:
    assert cut(value) == value


def test_a_cut_keeps_what_only_python_takes_for_json() -> None:
    assert json.loads(cut(b'{"cost_usd": NaN, "client_ip": "203.0.113.77", "model": "\\ud800"}')) == {
        "cost_usd": pytest.approx(math.nan, nan_ok=True), "client_ip": "203.0.113.0/24", "model": "\ud800",
    }  # fmt: skip
    assert cut(b'[{"client.address": "203.0.113.77"}, 3]') == b'[{"client.address":"203.0.113.0/24"},3]'


def test_hidden_records_are_hidden_once_and_wholly() -> None:
    pseudonyms = pseudonyms_of(Settings(pseudonym_key=SECRET))
    assert pseudonyms is not None
    read = hidden(parse, pseudonyms)
    lines = [json.dumps(FULL | change).encode() for change in ({}, {"time": "noon"}, {"key_id": 17})] + [b"{ID-marker"]
    written = b"\n".join(value for _, value in records_of(enumerate(lines), read))
    assert b"ID-marker" not in written
    [(_, _, call)], _ = read([(0, lines[0], 2e9)])
    assert call.key_id == pseudonyms.of("key", "ID-marker-key")
    assert call.user_id == pseudonyms.of("user", "ID-marker-user")
    assert json.loads(canonical(call, T0))["org_id"] == pseudonyms.of("org", "ID-marker-org")


def test_traits_take_the_place_of_what_they_are_of() -> None:
    call = Call("e", T0, "k", client_ip="here", user_agent=" ", prompt_fingerprint="")
    reduce_traits(call)
    assert (call.client_ip, call.user_agent, call.prompt_fingerprint) == (None, None, None)


@pytest.mark.parametrize("trait", [*REDUCED.values(), network_of_hops])
def test_texts_of_any_length_leave_nothing_behind(trait: Callable[[str], str | None]) -> None:
    """A client may send a new one with every call: what is remembered of them must be short."""
    longest = "203.0.113.7, " * 5000
    tracemalloc.start()
    try:
        for number in range(50):
            trait(f"{number}{longest}8.8.4.4")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
    assert network_of_hops(f"{longest}8.8.4.4") == "8.8.4.0/24"
