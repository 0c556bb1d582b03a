"""`overdraw alerts list` and `show`: what is open, the worst first, and all that is known of one incident."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from services import EVIL, T0, made_alert

from stream.alerts import Alert, Entity, Member, Members
from stream.cli import incidents
from stream.cli.alerts import command as alerts
from stream.cli.incidents import Incidents, lines_of
from stream.control import MESSAGE, Message

OPENED = made_alert(severity="warning", excess_tokens=1_200_000, status_reason="score 4.1 is over 3.0")
WORSE = made_alert(status="updated", at=T0 + 3600, excess_tokens=3_500_000, status_reason="it is high now")
STEPS = [
    made_alert(key="larger", severity="high", excess_tokens=9_000_000, org_id="acme"),
    OPENED,
    made_alert(key="over", severity="critical"),
    WORSE,
    made_alert(key="over", severity="critical", status="resolved", at=T0 + 7200),
    made_alert(key=EVIL[:256], severity="critical", kind="drift", excess_cost_usd=None, summary=EVIL),
    made_alert(key="old", severity="warning", historical=True),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "alerts.jsonl"
    path.write_text("".join(f"{alert.model_dump_json()}\n" for alert in STEPS), "utf-8")
    return path


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(alerts, list(words))
    assert done.exit_code == code, done.output
    return done.output


def said(kind: str, **content: Any) -> Message:
    return MESSAGE.validate_python(
        {"kind": kind, "id": "0123456789ab", "at": T0 + 60, "by": "ann", "why": "looking", **content}
    )


def test_what_is_open_is_listed_the_worst_first_with_what_is_gone(file: Path) -> None:
    lines = run("list", "--from-file", str(file)).splitlines()
    assert [line.split()[1] for line in lines] == ["critical", "high", "high", "backlog"]
    assert lines[1].startswith(STEPS[0].alert_id)
    assert "surge        2026-02-28T23:50:00Z  key key-17: 3.5 M tokens, 12.50 USD" in lines[2]
    assert all(line.isprintable() for line in lines)


def test_what_is_over_is_listed_where_it_is_asked_for(file: Path) -> None:
    lines = run("list", "--all", "--from-file", str(file), "--entity", "ov*").splitlines()
    assert len(lines) == 1
    assert ", over after 2.2 h  key over" in lines[0]
    assert run("list", "--from-file", str(file), "--entity", "over") == "no such incident\n"


def test_a_list_can_be_narrowed_and_read_by_programs(file: Path) -> None:
    words = ("list", "--from-file", str(file), "--json", "--severity", "high", "--kind", "surge")
    found = [Alert.model_validate_json(line) for line in run(*words).splitlines()]
    assert found == [STEPS[0], WORSE]


def test_without_an_incident_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("")
    assert run("list", "--from-file", str(tmp_path / "none.jsonl")) == "no incident is open\n"


def test_a_list_says_who_is_at_it_and_what_is_muted() -> None:
    words = [
        said("acknowledge", alert_id=OPENED.alert_id, entity=OPENED.entity, severity="warning"),
        said("mute", entity=Entity(type="org", id="acme"), until=T0 + 7200),
    ]
    larger, worse = lines_of([STEPS[0], WORSE], words, T0 + 3600, as_json=False)
    assert larger.endswith("(muted until 2026-03-01T02:00:00Z)")
    assert worse.endswith("(ann is at it, but it got worse since)")
    assert lines_of([OPENED], words, T0, as_json=False).__next__().endswith("(ann is at it)")
    assert "muted" not in next(lines_of([STEPS[0]], words, T0 + 8000, as_json=False)), "it is over"


def test_of_what_is_over_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incidents, "MOST_OVER", 3)
    found = Incidents()
    for number in range(20):
        found.take(made_alert(key=f"key-{number}", status="resolved", at=T0 + number))
    assert [alert.entity.id for alert in found.newest()] == ["key-17", "key-18", "key-19"]
    assert len(found.over) <= 6


def test_an_incident_whose_end_was_lost_is_replaced_by_the_next_one_of_its_entity() -> None:
    found = Incidents()
    found.take(made_alert(started_at=T0 - 600))
    found.take(made_alert(started_at=T0))
    assert [alert.started_at for alert in found.worst()] == [T0]
    found.take(made_alert(started_at=T0 - 600, status="resolved"))
    assert len(found.worst()) == 1, "an end that comes late ends nothing else"


def test_one_incident_is_shown_with_its_page_and_each_step_and_its_reason(file: Path) -> None:
    text = run("show", WORSE.alert_id.upper(), "--from-file", str(file))
    for words in (
        "[HIGH]",
        "Who: key key-17",
        "Look: overdraw explain",
        "Steps",
        "score 4.1 is over 3.0",
        "it is high now",
    ):
        assert words in text
    assert "Said" not in text
    steps = [json.loads(line) for line in run("show", "--json", WORSE.alert_id, "--from-file", str(file)).splitlines()]
    assert [step["status"] for step in steps] == ["opened", "updated"]


def test_of_a_groups_incident_its_members_are_shown_the_largest_first_and_what_they_share(tmp_path: Path) -> None:
    top = [Member(key_id=f"farm-{number:02}{EVIL[:20]}", z=1.5, excess_tokens=1e6 - number) for number in range(30)]
    members = Members(count=42, top=top, shared_traits={"template": "tpl-1", "network": EVIL[:30]})
    alert = made_alert(kind="campaign", severity="high").model_copy(update={"members": members})
    path = tmp_path / "alerts.jsonl"
    path.write_text(f"{alert.model_dump_json()}\n", "utf-8")
    lines = run("show", alert.alert_id, "--from-file", str(path)).splitlines()
    shared = lines.index("Shared")
    assert lines[shared + 1] == "  template         tpl-1"
    first = lines.index("Members  (42 named; tokens above the baseline, mean z)") + 1
    assert lines[first].startswith("  farm-00")
    assert lines[first].endswith("1,000,000    1.5")
    assert lines[first + 20] == "  … and 10 more: --json has them"
    assert all(line.isprintable() for line in lines)


def test_a_shown_incident_says_what_operators_said_of_it() -> None:
    words = [
        said("acknowledge", alert_id=OPENED.alert_id, entity=OPENED.entity, severity="warning"),
        said("acknowledge", alert_id=STEPS[0].alert_id, entity=STEPS[0].entity, severity="high"),
        said("mute", entity=OPENED.entity, until=T0 + 7200),
        said("mute", entity=Entity(type="org", id="acme"), until=T0 + 7200),
        said("block", key_id="key-17"),
        said("allow", scope={"type": "pattern", "id": "key-*"}, tokens_per_hour=5),
    ]
    kinds = [line.split(": ")[1].split()[0] for line in incidents._words(OPENED, words)]
    assert kinds == ["acknowledge", "mute", "block", "allow"]


def test_what_is_no_id_or_not_there_is_bad_input(file: Path) -> None:
    assert "32 hexadecimal digits, see `overdraw alerts list`" in run("show", "\x1b[31m", code=2)
    assert "holds no alert" in run("show", "0" * 32, "--from-file", str(file), code=2)


def test_without_a_broker_it_is_said_how_to_get_one() -> None:
    for words in (["list"], ["show", "0" * 32]):
        assert "no Kafka broker answers" in run(*words, "--set", "broker=127.0.0.1:1", code=3)
