"""`--format` and what goes with it, through the commands that read files."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stream.cli.formats import Reading
from stream.cli.replay import command as replay
from stream.settings import Settings
from tests.gateways.fixtures import FIXTURES, Fixture

DATA = Path(os.environ.get("OVERDRAW_TEST_DATA") or Path(__file__).parents[1].parent / "shared" / "data") / "gateways"


def run(*arguments: Any, **environ: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, summary and what was said beside it."""
    answer = CliRunner().invoke(replay, [*map(str, arguments), "--json"], env=environ)
    lines = answer.stdout.splitlines()
    return answer.exit_code, json.loads(lines[-1]) if lines else {}, answer.stderr


def fixture(name: str) -> Fixture:
    return next(found for found in FIXTURES if str(found) == name)


def write(path: Path, *values: bytes) -> Path:
    path.write_bytes(b"\n".join(values))
    return path


@pytest.mark.parametrize(
    "name", ["litellm/array", "otel/span_new", "apisix/array", "kong/entry", "envoy/line", "openai-usage/page"]
)
def test_auto_reads_a_gateways_file_and_says_what_it_saw(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.log", fixture(name).value, b"", fixture(name).value)
    code, summary, said = run(path, "--format", "auto")
    events = summary["events"]
    assert code == 0
    assert events["read"] == 2 * len(fixture(name).calls)
    assert events["accepted"] > 0
    assert events["accepted"] + events["duplicate"] + events["late"] == events["read"]
    assert f"calls.log: {fixture(name).format} (its records have " in said


def test_a_callback_that_fires_twice_counts_once(tmp_path: Path) -> None:
    code, summary, _ = run(write(tmp_path / "a.jsonl", fixture("litellm/array").value), "--format", "litellm")
    assert (code, summary["events"]["accepted"], summary["events"]["duplicate"]) == (0, 2, 1)


def test_a_document_over_many_lines_is_one_record(tmp_path: Path) -> None:
    value = json.dumps(fixture("litellm/array").record, indent=1).encode()
    for path in (write(tmp_path / "a.json", value), tmp_path / "a.json.gz"):
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(value))
        assert run(path, "--format", "auto")[1]["events"]["read"] == 3
    canonical = {"event_id": "a", "time": 1.7e9, "key_id": "k"}
    path = write(tmp_path / "b.json", json.dumps([canonical, canonical | {"event_id": "b"}], indent=1).encode())
    assert run(path)[1]["events"]["accepted"] == 2
    huge = write(tmp_path / "c.json", b"[", *([b'{"x": "' + b"y" * 1_000_000 + b'"},'] * 9), b"{}]")
    code, _, said = run(huge, "--format", "litellm")
    assert code == 2
    assert "one JSON document of more than 8 MiB" in said


def test_refusals_are_told_with_line_reason_and_remedy(tmp_path: Path) -> None:
    path = write(
        tmp_path / "k.log",
        fixture("kong/entry").value,
        fixture("kong/no_ai").value,
        fixture("kong/anonymous").value,
        b"{",
    )
    _, summary, said = run(path, "--format", "kong")
    assert summary["events"]["dead_letters"] == {"broken_json": 1, "missing_field": 1, "not_a_call": 1}
    assert "k.log, line 2: not_a_call: no ai.proxy: set logging.log_statistics" in said
    assert "k.log, line 3: missing_field: key_id: Field required. Put an authentication plugin" in said
    assert "k.log, line 4: broken_json" in said


def test_the_key_comes_from_where_the_user_says(tmp_path: Path) -> None:
    path = write(tmp_path / "k.log", fixture("kong/entry").value)
    assert run(path, "--format", "kong", "--key-from", "nowhere")[1]["events"]["dead_letters"] == {"missing_field": 1}
    assert run(path, "--format", "kong", "--key-from", "nowhere", "--key-from", "consumer.id")[1]["keys"] == 1
    from_settings = run(path, "--format", "kong", OVERDRAW_INTAKE_KEY_FROM="nowhere, authenticated_entity.id")
    assert from_settings[1]["keys"] == 1


def test_a_mapping_file_is_a_format_of_its_own(tmp_path: Path) -> None:
    chosen = fixture("mapping/record")
    mapping = tmp_path / "m.toml"
    mapping.write_text(chosen.options.mapping or "")
    path = write(tmp_path / "x.jsonl", chosen.value)
    for options in (("--mapping", mapping), ("--mapping", mapping, "--format", "auto")):
        assert run(path, *options)[1]["events"]["read"] == 2
    environ = {"OVERDRAW_INTAKE_MAPPING_FILE": str(mapping)}
    assert run(path, "--format", "mapping", **environ)[1]["events"]["read"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "konk"), "did you mean 'kong'"),
        (("--format", "mapping"), "needs a file"),
        (("--mapping", "/nowhere.toml"), "--mapping: cannot read /nowhere.toml"),
        (("--format", "kong", "--key-from", "a..b"), "is no path"),
        (("--format", "kong", "--key-from", "request.headers.authorization"), "holds the secret itself"),
        (("--format", "auto"), "names at the top: level, text"),
        (("--format", "kong", "--map", "a=b"), "--map and --const need --format csv"),
    ],
)
def test_what_will_not_do_is_exit_2_and_says_what_will(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    code, _, said = run(write(tmp_path / "x.log", b'{"level": "info", "text": "PROMPT-marker"}'), *options)
    assert code == 2
    assert words in said
    assert "PROMPT-marker" not in said


def test_a_csv_is_recognised_by_its_header_and_mapped_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"key_id,time,input_tokens", b"k,1700000000,5")
    assert run(path, "--format", "auto")[1]["events"]["accepted"] == 1
    path = write(tmp_path / "b.txt", b"who,when", b"k,1700000000")
    code, summary, _ = run(path, "--format", "auto", "--map", "key_id=who", "--map", "time=when")
    assert (code, summary["events"]["accepted"]) == (0, 1)


def test_a_compressed_bomb_is_one_refused_record(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(64):
            file.write(b"\0" * (1 << 20))
    code, summary, _ = run(path, "--format", "litellm")
    assert code == 2
    assert summary["events"] == {
        "read": 1, "accepted": 0, "duplicate": 0, "late": 0, "dead_letters": {"too_large": 1}
    }  # fmt: skip


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("format", ["kong", "overdraw"])
def test_ids_are_hidden_in_files_too(format: str, stored: bool, tmp_path: Path) -> None:
    canonical = json.dumps({"event_id": "9ec9", "time": 1.7e9, "key_id": "jack"}).encode()
    path = write(tmp_path / "k.log", fixture("kong/entry").value if format == "kong" else canonical, b"{jack")
    reading = Reading(format, {}, {})
    chunks = reading.chunks(str(path), Settings(pseudonym_key="0123456789abcdef"), stored=stored)
    chunk = [record for chunk in chunks for record in chunk]
    assert [number for number, _ in chunk] == [1, 2]
    assert b"9ec9" in chunk[0][1]
    assert b"jack" not in chunk[0][1] + chunk[1][1]
    assert all(value for _, value in chunk) or not stored, "what is stored is no tombstone"


@pytest.mark.skipif(
    not DATA.exists(), reason="needs gateways/ in ../shared/data, or in the folder that OVERDRAW_TEST_DATA names"
)
@pytest.mark.parametrize(
    ("name", "accepted", "reasons"),
    [
        ("litellm_1.106_real.json", 3, {}),
        ("litellm_1.106_real_failure.json", 1, {}),
        ("litellm_standard_logging_payload.json", 0, {"missing_field": 1}),
        ("litellm_spend_logs_payload.json", 0, {"missing_field": 1}),
        ("apisix_kafka_logger_1.json", 0, {"not_a_call": 1}),
    ],
)
def test_what_real_gateways_wrote_is_read(name: str, accepted: int, reasons: dict[str, int]) -> None:
    code, summary, said = run(DATA / name, "--format", "auto")
    assert code == (0 if accepted else 2)
    assert (summary["events"]["accepted"], summary["events"]["dead_letters"]) == (accepted, reasons)
    assert name.partition("_")[0] in said
