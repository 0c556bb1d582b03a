"""`overdraw replay --report`: one page that says all, whatever the ids are, and that is there whole or not at all."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from stream.__main__ import cli
from stream.alerts import ChannelScore, Member, Members
from stream.core.charted import MOST_HOURS, MOST_KEYS, SPARE_HOURS, Chart, Charts
from stream.lab.replay import Replay
from stream.lab.report import Found, page_of
from stream.lab.report.page import MOST_FILES, MOST_INCIDENTS, MOST_PLOTS
from stream.partition import partition_of
from stream.settings import Settings
from tests.made_alerts import alert as made

START = 1_772_323_200.0  # 2026-03-01T00:00:00Z
HOUR = 3600.0
DAYS = 14
SURGE = 12 * 24 + 9
NASTY = "<script>alert('x')</script>\"&\u202e\x1b[31m\x85"
SETTINGS = ("--set", "bucket_seconds=3600", "--set", "partitions=2")
VOID = {"meta", "rect", "path", "br"}


def record(key: str, hour: int, calls: int, number: int = 0) -> str:
    tokens = 700 + (hour * 7919 + len(key) * 31 + number) % 200
    call = {
        "event_id": f"{key}-{hour}-{number}", "time": START + hour * HOUR + 1800 + number, "key_id": key,
        "calls": calls, "input_tokens": calls * tokens, "output_tokens": calls * 300, "model": "m",
        "org_id": "<i>org</i>", "client_ip": "198.51.100.77", "cost_usd": calls * 0.001,
    }  # fmt: skip
    return json.dumps(call)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three keys for two weeks, two of them drained for five hours; a record that is none, and one that comes twice."""
    path = tmp_path_factory.mktemp("report") / "calls <b>.jsonl"
    lines = [record("calm", 0, 30), "{"]
    for hour in range(DAYS * 24):
        lines += [record(key, hour, 30) for key in ("calm", "key-1", NASTY)]
        if SURGE <= hour < SURGE + 5:
            lines += [record("key-1", hour, 9_000, 1), record(NASTY, hour, 4_000, 1)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def run(*words: object):
    return CliRunner().invoke(cli, ["replay", *map(str, words)])


@pytest.fixture(scope="module")
def page(recorded: Path) -> str:
    out = recorded.with_name("found.html")
    done = run(recorded, *SETTINGS, "--report", out, "--json")
    assert done.exit_code == 0, done.output
    return out.read_text("utf-8")


class Reader(HTMLParser):
    """Text, tags and attributes of a page; fails where tags do not close as they should."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def found_of(alerts, **others) -> Found:
    summary = Replay(Settings(), partition_of=partition_of, now=START).summary.as_json(0)
    return Found(files=[("a.jsonl", 1)], summary=summary, settings={}, alerts=alerts, **others)


def test_the_page_says_what_was_read_what_decided_and_what_was_found(page):
    text = Reader(page).text
    for words in (
        "calls from 2026-03-01T00:00:00Z to 2026-03-14T23:30:00Z",
        "1 broken_json",
        "1, counted once",
        "key key-1",
        "false_alerts_per_1000_key_days",
        "bucket_seconds 3600",
        "priors_digest",
        "config_digest",
        "calls <b>.jsonl 1,020",
        "USD",
    ):
        assert words in text, words


def test_every_incident_is_there_the_worst_first(recorded, page, tmp_path):
    out = tmp_path / "alerts.jsonl"
    run(recorded, *SETTINGS, "--alerts", out)
    last = {}
    for line in out.read_bytes().splitlines():
        alert = json.loads(line)
        last[alert["alert_id"]] = alert
    assert len(last) >= 2
    cards = re.findall(r"<dt>Alert</dt><dd><bdi class=\"id\">(\w+)</bdi>", page)
    assert sorted(cards) == sorted(last)
    grades = ["critical", "high", "warning", "info"]
    order = [(grades.index(last[i]["severity"]), -last[i]["excess_tokens"]) for i in cards]
    assert order == sorted(order)
    for alert in last.values():
        assert alert["started_at"] in page


def test_what_came_with_the_records_is_never_markup(page):
    reader = Reader(page)
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "img", "iframe", "object", "link", "form", "i", "base"}
    assert all(not name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert page.replace("\n", "").isprintable()
    assert "<script>alert('x')</script>\"&\\u202e\\x1b[31m\\x85" in reader.text


def test_the_page_needs_nothing_from_elsewhere_and_holds_no_address(page):
    reader = Reader(page)
    for tag, attributes in reader.tags:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    assert "url(" not in page
    assert "@import" not in page
    assert re.findall(r"https?://[^\"< ]*", page) == ["http://www.w3.org/2000/svg"] * page.count("<svg")
    assert "198.51.100.77" not in page
    policy = next(a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_keys_with_an_incident_are_drawn(page):
    drawn = re.findall(r"<article .*?</article>", page, re.DOTALL)
    assert [("<svg" in card) for card in drawn if "key-1" in card.split("</h3>")[0]] == [True]
    assert "the window that is judged" not in page, "the legend names what is drawn, and no more"
    assert page.count("<style>") == 1


def test_links_of_an_alert_are_left_out():
    alert = made(kind="surge").model_copy(update={"links": {"dashboard": "https://grafana.internal/x"}})
    assert "grafana.internal" not in page_of(found_of([alert]))


def test_the_same_records_make_the_same_page(recorded, page, tmp_path):
    out = tmp_path / "again.html"
    assert run(recorded, *SETTINGS, "--report", out).exit_code == 0
    assert out.read_text("utf-8") == page


def test_a_report_changes_nothing_of_what_is_found(recorded, tmp_path):
    without, beside = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run(recorded, *SETTINGS, "--alerts", without)
    run(recorded, *SETTINGS, "--alerts", beside, "--report", tmp_path / "a.html")
    assert without.read_bytes() == beside.read_bytes()


def test_a_campaign_names_its_members():
    members = Members(
        count=30, top=[Member(key_id=f"<k{i}>", z=3.0, excess_tokens=1e6) for i in range(20)],
        shared_traits={"network": "192.0.2.0/24"}, alone=0,
    )  # fmt: skip
    alert = made(kind="campaign").model_copy(update={"members": members})
    text = Reader(page_of(found_of([alert]))).text
    assert "30 keys, of which 0 would have been found alone; they share network 192.0.2.0/24 . The 20 strongest" in text
    assert "<k19>" in text


def test_more_incidents_than_can_be_read_are_counted():
    alerts = [
        made(kind="surge").model_copy(update={"alert_id": f"{i:032x}", "excess_tokens": float(i)})
        for i in range(MOST_INCIDENTS + 7)
    ]
    page = page_of(found_of(alerts))
    assert page.count("<article") == MOST_INCIDENTS
    assert "7 more are not shown here" in Reader(page).text
    assert f"{6:032x}" not in page
    assert f"{7:032x}" in page


def test_plots_and_files_are_bounded_too():
    alerts = [made(kind="surge").model_copy(update={"alert_id": f"{i:032x}"}) for i in range(MOST_PLOTS + 5)]
    chart = Chart(START, (1.0, 2.0), (1.0, 1.0))
    found = found_of(alerts, charts={alert.alert_id: chart for alert in alerts})
    assert page_of(found).count("<svg") == MOST_PLOTS
    many = Found(
        files=[(f"{i}.jsonl", 1) for i in range(MOST_FILES + 3)], summary=found.summary, settings={}, alerts=[]
    )
    assert "And 3 more files" in page_of(many)


def test_a_replay_that_found_nothing_says_so(tmp_path):
    (tmp_path / "calls.jsonl").write_text(record("k", 0, 1) + "\n", "utf-8")
    out = tmp_path / "found.html"
    assert run(tmp_path / "calls.jsonl", "--report", out).exit_code == 0
    assert "None: no key and no group of keys" in Reader(out.read_text("utf-8")).text
    (tmp_path / "none.jsonl").write_text("", "utf-8")
    assert run(tmp_path / "none.jsonl", "--report", out).exit_code == 2
    assert "no call was accepted" in Reader(out.read_text("utf-8")).text


@pytest.mark.parametrize(
    ("target", "words", "why"),
    [
        ("absent/found.html", "cannot write", "no folder"),
        (".", "it is a folder", "a folder"),
        ("-", "name of a file", "standard output"),
        ("calls.jsonl", "another file of this command", "it would overwrite its input"),
        ("./calls.jsonl", "another file of this command", "its input by another name"),
        ("alerts.jsonl", "another file of this command", "the alerts"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_replay(target, words, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("calls.jsonl").write_text(record("k", 0, 1) + "\n", "utf-8")
    with patch("stream.cli.inputs.Inputs.feed", side_effect=AssertionError("it began")):
        done = run("calls.jsonl", "--report", target, "--alerts", "alerts.jsonl")
    assert done.exit_code == 2, why
    assert words in done.output, why
    assert sorted(os.listdir()) == ["calls.jsonl"], why


def test_a_page_that_fails_half_way_leaves_the_old_one(tmp_path):
    (tmp_path / "calls.jsonl").write_text(record("k", 0, 1) + "\n", "utf-8")
    out = tmp_path / "found.html"
    out.write_text("old", "utf-8")
    with patch("stream.cli.page.os.replace", side_effect=OSError(28, "No space left on device")):
        done = run(tmp_path / "calls.jsonl", "--report", out)
    assert done.exit_code == 2
    assert "No space left on device" in done.output
    assert out.read_text("utf-8") == "old"
    assert sorted(os.listdir(tmp_path)) == ["calls.jsonl", "found.html"]


def test_others_may_read_the_page(recorded, page):
    mask = os.umask(0)
    os.umask(mask)
    assert recorded.with_name("found.html").stat().st_mode & 0o777 == 0o666 & ~mask


# ---------------------------------------------------------------- the hours behind it


def charted(lines, charts, **settings):
    replay = Replay(Settings(**settings), partition_of=partition_of, now=START + 1e8, make_key=charts)
    replay.feed([line.encode() for line in lines])
    replay.finish()
    return replay


def test_hours_hold_what_was_used_and_survive_sleep(recorded):
    lines = recorded.read_text("utf-8").splitlines()
    charts = Charts(5)
    replay = charted(lines, charts, bucket_seconds=900, partitions=1)
    alerts = {alert.alert_id: alert for alert in replay.summary.step.alerts if alert.entity.id == "key-1"}
    kept = charts.finish(900)
    assert alerts
    assert set(alerts) <= set(kept)
    chart = kept[next(iter(alerts))]
    used: dict[float, int] = {}
    for call in map(json.loads, [line for line in lines if line != "{"]):
        if call["key_id"] == "key-1":
            hour = call["time"] // HOUR * HOUR
            used[hour] = used.get(hour, 0) + call["input_tokens"] + call["output_tokens"]
    for hour, tokens in enumerate(chart.tokens):
        assert tokens == pytest.approx(used.get(chart.start + hour * HOUR, 0), rel=1e-6)
    assert chart.start <= START + SURGE * HOUR < chart.end


def test_charted_keys_may_sleep_and_are_found_again():
    # two hours of use a day: in between the key is packed
    lines = [record(key, d * 24 + h, 30) for d in range(6) for h in (0, 1, 12, 23) for key in ("a", "b")]
    charts = Charts(5)
    replay = charted([line for line in lines if '"b-' not in line or "-12-" not in line], charts, partitions=1)
    series = charts._series["a"]
    assert len(replay.shards[0]._keys.packed) + len(replay.shards[0]._keys.held) == 2
    assert sum(1 for tokens in series.tokens if tokens) >= 20


def test_a_long_recording_keeps_three_weeks():
    charts = Charts(1)
    lines = [record("k", hour, 30) for hour in range(45 * 24)]
    charted(lines, charts, bucket_seconds=3600, partitions=1)
    assert len(charts._series["k"].tokens) < MOST_HOURS + SPARE_HOURS
    assert len(charts._series["k"].chart().tokens) == MOST_HOURS


def test_hours_are_kept_of_the_keys_that_are_seen_first(recorded):
    charts = Charts(5, most_keys=1)
    charted(recorded.read_text("utf-8").splitlines(), charts, bucket_seconds=3600, partitions=1)
    assert list(charts._series) == ["calm"]
    assert charts.finish(3600) == {}


def test_it_is_said_if_keys_were_too_many_to_be_drawn():
    found = found_of([made()])
    found.summary["keys"] = MOST_KEYS + 1
    assert "of the 20,000 keys that were seen first" in Reader(page_of(found)).text


def test_only_the_strongest_are_kept(recorded):
    charts = Charts(1)
    replay = charted(recorded.read_text("utf-8").splitlines(), charts, bucket_seconds=3600, partitions=1)
    last = {alert.alert_id: alert for alert in replay.summary.step.alerts if alert.entity.type == "key"}
    strongest = max(last.values(), key=lambda alert: (alert.severity == "critical", alert.excess_tokens))
    assert set(charts.finish(3600)) == {strongest.alert_id}


def test_other_alerts_are_told_as_they_are():
    feed = made(kind="feed").model_copy(update={"channels": [ChannelScore(name="<c>", z=1.0)]})
    assert "the detector itself is blind" in page_of(found_of([feed]))
