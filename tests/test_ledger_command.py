"""`overdraw ledger` over a file: what it prints, what spreadsheets get, and what it refuses."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner
from made_alerts import HOUR, T0, alert, group

from stream.__main__ import cli
from stream.alerts import ModelShare
from stream.cli.ledger import COLUMNS, FORMULA, cell
from stream.ledger import Ledger, rows_of, total_of

PRICES = '[[prices]]\nmodels = ["m-large"]\ninput = 2\noutput = 10\n'
EVIL = [
    "=cmd|'/c calc'!A1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\u3000=1",
    'a"b,c',
    "\x1b[31m\u202e",
]


@pytest.fixture
def ledger(tmp_path):
    """Run the command over some alerts; further options behind them."""

    def run(*alerts, options=(), prices=None, status=0):
        path = tmp_path / "alerts.jsonl"
        path.write_text("".join(each.model_dump_json() + "\n" for each in alerts) + "\n", "utf-8")
        words = ["ledger", "--from-file", str(path), *options]
        if prices is not None:
            (tmp_path / "prices.toml").write_text(prices, "utf-8")
            words += ["--prices", str(tmp_path / "prices.toml")]
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == status, done.output
        return done.output

    return run


def test_a_table_has_a_line_for_each_and_counts_no_token_twice(ledger):
    lines = ledger(group(), alert(status="opened"), prices=PRICES).splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["who", "n"],
        ["key", "key-1"],
        ["org", "acme"],
        ["all,", "each"],
    ]
    assert "open" in lines[1]
    assert "2026-03-01T02:00Z" in lines[2]
    assert "1.6 M" in lines[3]
    assert lines[4] == "400 k tokens are in a group's row and in that of a member: they count once below."
    assert len(lines) == 5


def test_tokens_without_a_price_are_said_with_the_remedy(ledger):
    assert "1.0 M tokens have no price: say --prices FILE." in ledger(alert())
    other = alert(models=[ModelShare(id="other", share=1.0)])
    assert 'add its models, or "*" for all others, to the price file' in ledger(other, prices=PRICES)
    assert "no price" not in ledger(alert(), prices=PRICES)


def test_json_is_what_the_ledger_says(ledger):
    alerts = (group(), alert(), alert("key-2", start=9.0, excess_cost_usd=3.25))
    document = json.loads(ledger(*alerts, options=["--json"], prices=PRICES))
    assert document["currency"] == "USD"
    assert [(e["entity_id"], e["incidents"], e["counted_tokens"]) for e in document["entries"]] == [
        ("key-1", 1, 600_000), ("key-2", 1, 1_000_000), ("acme", 1, 1_000_000),
    ]  # fmt: skip
    first = document["entries"][0]
    assert (first["excess_tokens"], first["excess_low"], first["excess_high"]) == (1_000_000, 900_000, 1_050_000)
    assert (first["since"], first["until"], first["within"]) == (
        "2026-03-01T00:00:00Z", "2026-03-01T02:00:00Z", [group().alert_id],
    )  # fmt: skip
    assert first["models"] == {"m-large": 1.0}
    assert document["entries"][1]["cost"] == 3.25
    assert [m["key_id"] for m in document["entries"][2]["of"][0]["members"]] == ["key-1", "key-2"]
    book = Ledger()
    for each in alerts:
        book.take(each)
    assert document["total"]["excess_tokens"] == round(total_of(rows_of(book.entries())).excess)
    assert json.loads(ledger(*alerts, options=["--format", "json"], prices=PRICES)) == document


def test_a_row_may_be_an_incident(ledger):
    alerts = (alert(), alert(start=9.0))
    for by, count in (("entity", 1), ("incident", 2)):
        rows = list(csv.DictReader(io.StringIO(ledger(*alerts, options=["--format", "csv", "--by", by]))))
        assert len(rows) == count
        assert {row["entity_id"] for row in rows} == {"key-1"}
        assert sum(int(row["excess_tokens"]) for row in rows) == 2_000_000


@pytest.mark.parametrize("evil", EVIL)
def test_no_id_becomes_a_formula_or_a_control(ledger, evil):
    made = alert(evil, models=[ModelShare(id=evil, share=1.0)])
    text = ledger(made, options=["--format", "csv"])
    (row,) = csv.DictReader(io.StringIO(text))
    assert tuple(row) == COLUMNS
    for value in row.values():
        assert not value.strip().startswith(FORMULA)
        assert value.isprintable()
    assert text.count("\n") == 2, "one line each, so that no reader can be led astray"
    for form in ("table", "json"):
        shown = ledger(made, options=["--format", form])
        assert shown.replace("\n", "").isprintable()


def test_a_cell_that_is_harmless_stays_as_it_is():
    assert [cell(value) for value in ("key-1", "a=b", 3, 0.5, None, "")] == ["key-1", "a=b", "3", "0.5", "", ""]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--key", "key-2"], {"key-2"}),
        (["--org", "acme"], {"acme", "key-1"}),
        (["--since", "2026-03-01T05:00:00Z"], {"key-9"}),
        (["--until", str(T0 + HOUR)], {"acme", "key-1"}),
        (["--key", "nobody"], set()),
    ],
)
def test_what_is_asked_for_is_shown(ledger, options, found):
    alerts = (group(), alert(), alert("key-9", start=9.0))
    document = json.loads(ledger(*alerts, options=[*options, "--json"]))
    assert {entry["entity_id"] for entry in document["entries"]} == found


def test_no_incident_is_an_answer_too(ledger):
    assert ledger() == "no incident so far\n"
    assert json.loads(ledger(options=["--json"]))["total"]["excess_tokens"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "yesterday"], "--since yesterday: time is not RFC 3339"),
        (["--since", "2026-03-02T00:00:00Z", "--until", "2026-03-01T00:00:00Z"], "--since must lie before --until"),
        (["--prices", "nowhere.toml"], "cannot read nowhere.toml: No such file"),
        (["--format", "xml"], "'xml' is not one of"),
        (["--json", "--format", "csv"], "--json is --format json, and --format csv is another: leave one out"),
    ],
)
def test_bad_usage_is_exit_2_and_says_what_to_do(ledger, options, message):
    assert message in ledger(alert(), options=options, status=2)


def test_a_bad_price_file_names_the_place(ledger):
    assert "prices.toml: prices.0.output: Field required" in ledger(
        alert(), prices='[[prices]]\nmodels = ["x"]\ninput = 1\n', status=2
    )


def test_a_line_that_is_no_alert_is_named(tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_text(alert().model_dump_json() + '\n{"event_id": "r-1"}\n')
    done = CliRunner().invoke(cli, ["ledger", "--from-file", str(path)])
    assert done.exit_code == 2
    assert "calls.jsonl, line 2: not an alert of this version" in done.output


def test_standard_input_is_read(tmp_path):
    done = CliRunner().invoke(cli, ["ledger", "--from-file", "-", "--json"], input=alert().model_dump_json())
    assert json.loads(done.output)["total"]["calls"] == 250


def test_a_broker_that_is_not_there_is_exit_3():
    done = CliRunner().invoke(cli, ["ledger", "--set", "broker=127.0.0.1:1"])
    assert done.exit_code == 3
    assert "no Kafka broker answers at 127.0.0.1:1" in done.output
