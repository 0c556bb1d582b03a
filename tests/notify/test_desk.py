"""Who hears of an incident once, of its worsening and of its end; and what a storm comes to."""

from __future__ import annotations

from typing import Any

import pytest
from services import T0, made_alert

from stream.alerts import SILENT_SECONDS, Alert, Entity, Member, Members
from stream.control import MESSAGE
from stream.notify.desk import MAX_INCIDENTS, Decision, Desk, short_id
from stream.notify.digest import TOP, Burst, Gathered
from stream.notify.hush import Hush

SEND, DIGEST, SILENT, HOLD = Decision.SEND, Decision.DIGEST, Decision.SILENT, Decision.HOLD


class Told:
    """A desk, and alerts that come to it."""

    def __init__(self, dedupes: bool = True, every_update: bool = True) -> None:
        self.desk = Desk(dedupes=dedupes, every_update=every_update, keeps=True)

    def __call__(
        self,
        status: str = "opened",
        matched: bool = True,
        may_send: bool = True,
        paged: bool = False,
        hold: bool = False,
        **changes: Any,
    ) -> Decision:
        alert = made_alert(status=status, **changes)
        return self.desk.judge(alert, matched, may_send, source="/s", partition=0, at=T0, paged=paged, hold=hold)


@pytest.mark.parametrize(("every_update", "update"), [(True, SEND), (False, SILENT)])
def test_an_incident_is_told_when_it_opens_gets_worse_and_ends(every_update: bool, update: Decision) -> None:
    told = Told(every_update=every_update)
    assert told() is SEND
    assert told("updated") is update
    assert told("updated", severity="critical") is SEND
    assert told("updated", severity="critical") is update
    assert told("updated", severity="high") is update
    assert told("resolved") is SEND
    assert len(told.desk) == 0


@pytest.mark.parametrize(
    ("before", "after", "paged", "decision"),
    [
        ("warning", "high", False, SEND),
        ("warning", "critical", False, SEND),
        ("warning", "high", True, SILENT),  # whoever is on call has it from the pager
        ("high", "critical", False, SILENT),  # the page is out
        ("info", "warning", False, SILENT),
    ],
)
def test_where_a_rise_would_be_another_message_only_a_page_that_no_pager_tells_is_one(
    before: str, after: str, paged: bool, decision: Decision
) -> None:
    told = Told(dedupes=False, every_update=False)
    assert told(severity=before) is SEND
    assert told("updated", severity=after, paged=paged) is decision
    assert told("updated", severity=after) is SILENT, "it is told once, or never"
    assert told("resolved", severity=after) is SEND


def small(**changes: Any) -> dict[str, Any]:
    return {"severity": "warning", "excess_tokens": 5e5} | changes


def test_a_ticket_that_waits_is_told_as_soon_as_it_has_no_longer_to() -> None:
    told = Told(dedupes=False, every_update=False)
    assert told(hold=True, **small()) is HOLD
    assert told("updated", **small()) is HOLD
    assert told("updated", paged=True, **small(severity="high")) is SEND, "nobody has heard of it"
    assert told("updated", **small(severity="high")) is SILENT
    assert told("resolved", **small(severity="high")) is SEND

    assert told(hold=True, **small()) is HOLD
    assert told.desk.is_time(made_alert(**small()), lambda: True) is SEND
    assert told("updated", **small(excess_tokens=3e6)) is SILENT, "it was told"
    assert told("resolved", **small()) is SEND
    assert told.desk.is_time(made_alert(**small()), pytest.fail) is SILENT, "it is over"


def test_a_page_never_waits() -> None:
    told = Told(dedupes=False, every_update=False)
    assert told(hold=True) is SEND
    assert told(hold=True, key="other", may_send=False) is DIGEST


def test_a_ticket_that_waits_asks_the_limit_when_it_is_told_and_not_before() -> None:
    told = Told(dedupes=False, every_update=False)
    desk = told.desk
    assert not desk.needs_leave(made_alert(**small()), True, hold=True)
    assert desk.needs_leave(made_alert(**small()), True)
    for key in ("a", "b", "c"):
        assert told(hold=True, may_send=False, key=key, **small()) is HOLD
    assert desk.digested() == 0
    assert not desk.needs_leave(made_alert("a", "updated", **small()), True)
    page = made_alert("a", "updated", severity="high")
    over = made_alert("b", "resolved", **small())
    assert desk.needs_leave(page, True)
    assert told("updated", key="a", may_send=False) is DIGEST
    assert desk.needs_leave(over, True)
    assert told("resolved", key="b", may_send=False, **small()) is DIGEST
    assert desk.is_time(made_alert("c", **small()), lambda: False) is DIGEST
    assert desk.digested() == desk.digested(0) == 2
    assert desk.told(0) == []
    assert told("resolved", key="a") is told("resolved", key="c", **small()) is DIGEST


def test_what_waits_still_after_a_restart_was_in_no_digest() -> None:
    after = Told(dedupes=False, every_update=False)
    assert after(hold=True, **small()) is HOLD
    after.desk.remember(made_alert(status="updated", **small()), True, [], source="/s", partition=0, at=T0)
    assert after.desk.digested() == 0
    assert after("resolved", **small()) is SEND


def test_what_nobody_wants_to_hear_of_when_its_time_comes_was_never_told() -> None:
    hush = Hush()
    desk = Desk(dedupes=False, every_update=False, keeps=False, hush=hush, clock=lambda: T0)
    alert = made_alert(**small())
    assert desk.judge(alert, True, True, source="/s", partition=0, at=T0, hold=True) is HOLD
    words = {"kind": "acknowledge", "id": "r", "at": T0, "by": "ann", "why": "at it", "severity": "warning"}
    hush.take(MESSAGE.validate_python(words | {"alert_id": alert.alert_id, "entity": alert.entity}))
    over = made_alert(status="resolved", **small())
    assert desk.judge(over, True, True, source="/s", partition=0, at=T0) is SILENT
    assert desk.judge(alert, True, True, source="/s", partition=0, at=T0, hold=True) is SILENT
    assert desk.is_time(alert, pytest.fail) is SILENT


def test_what_waits_speaks_for_nobody() -> None:
    told = Told(dedupes=False, every_update=False)
    group = small(
        kind="campaign", entity=Entity(type="network", id="192.0.2.0/24"),
        members=Members(count=1, top=[Member(key_id="key-17", z=3.0, excess_tokens=1.0)]),
    )  # fmt: skip
    assert told(hold=True, **group) is HOLD
    assert told(**small()) is SEND, "the campaign was not told"
    assert told("resolved", **small()) is SEND
    assert told.desk.is_time(made_alert(**group), lambda: True) is SEND
    assert told(hold=True, **small()) is SILENT


def test_of_a_digest_in_a_channel_only_a_page_that_no_pager_tells_is_told_by_itself() -> None:
    told = Told(dedupes=False, every_update=False)
    told(severity="warning", may_send=False)
    worse = made_alert(status="updated", severity="high")
    assert told.desk.needs_leave(worse, True)
    assert not told.desk.needs_leave(worse, True, paged=True)
    assert told("updated", severity="high") is SEND


def test_what_no_route_leads_to_is_not_told_until_one_does() -> None:
    told = Told(every_update=False)
    assert told(matched=False, severity="warning") is SILENT
    assert told("updated", severity="high") is SEND
    assert told("resolved", matched=False) is SEND, "who was told of it hears of its end"
    assert told("resolved", matched=False) is SILENT


@pytest.mark.parametrize(("dedupes", "decision"), [(True, SEND), (False, SILENT)])
def test_an_end_without_a_beginning_is_told_where_nobody_hears_it(dedupes: bool, decision: Decision) -> None:
    assert Told(dedupes=dedupes)("resolved") is decision


def test_an_incident_after_another_one_of_the_same_key_is_a_new_one() -> None:
    told = Told(every_update=False)
    assert told(started_at=T0 - 600) is SEND
    assert told(started_at=T0) is SEND
    assert told("resolved", started_at=T0) is SEND


def test_beyond_the_limit_an_incident_is_told_in_a_digest_from_beginning_to_end() -> None:
    told = Told()
    assert told(may_send=False) is DIGEST
    assert told("updated", may_send=True) is SILENT
    assert told.desk.digested() == told.desk.digested(0) == 1
    assert list(told.desk.firing(T0)) == []
    assert told("resolved") is DIGEST
    assert told.desk.digested() == 0


@pytest.mark.parametrize("every_update", [True, False])
def test_an_incident_of_a_digest_that_gets_worse_is_told(every_update: bool) -> None:
    told = Told(every_update=every_update)
    told(may_send=False)
    told(key="other", may_send=False)
    worse = made_alert(status="updated", severity="critical")
    assert told.desk.needs_leave(worse, True)
    assert told("updated", severity="critical", may_send=False) is DIGEST
    assert told.desk.digested_severities() == {"critical": 1, "high": 1}
    assert not told.desk.needs_leave(worse, True)
    assert told("updated", severity="critical") is SILENT
    other = made_alert(key="other", status="updated", severity="critical")
    assert told.desk.needs_leave(other, False)
    assert told("updated", key="other", severity="critical", may_send=True) is SEND
    assert told.desk.digested() == told.desk.digested(0) == 1
    assert told.desk.told(0) == [short_id(other.alert_id)]
    assert [known.fingerprint for known in told.desk.firing(T0)] == [other.fingerprint]
    assert told("resolved", key="other") is SEND
    assert told("resolved") is DIGEST
    assert told.desk.digested() == 0


def test_a_digest_says_what_got_worse_and_counts_it_once() -> None:
    gathered = Gathered()
    gathered.add(made_alert(severity="critical", excess_tokens=5), T0, known=True)
    digest = gathered.digest("overdraw", [0], 2, T0)
    assert digest.title == "[CRITICAL] 1 of the incidents told in one message got worse"
    assert digest.lines()[0] == "Opened 0, got worse 1, ended 0, open now 2"
    gathered.add(made_alert(severity="critical", excess_tokens=5), T0)
    digest = gathered.digest("overdraw", [0], 2, T0)
    assert (digest.opened, digest.worsened, digest.excess_tokens, len(digest.top)) == (1, 1, 5, 1)


def test_a_digest_says_what_waited_and_is_over_as_what_opened_and_ended() -> None:
    gathered = Gathered()
    gathered.add(made_alert(status="resolved", severity="warning", excess_tokens=5), T0)
    gathered.add(made_alert(status="resolved"), T0, known=True)
    digest = gathered.digest("overdraw", [0], 0, T0)
    assert digest.title == "[WARNING] 1 more incidents at once, told in one message: 5 tokens above the baselines"
    assert digest.lines()[0] == "Opened 1, ended 2, open now 0"
    assert len(digest.top) == 1


def test_only_a_new_incident_counts_against_the_limit() -> None:
    desk = Told().desk
    assert desk.needs_leave(made_alert(), True)
    assert not desk.needs_leave(made_alert(), False)
    assert not desk.needs_leave(made_alert(status="resolved"), True)
    desk.judge(made_alert(), True, True, source="/s", partition=0, at=T0)
    assert not desk.needs_leave(made_alert(status="updated"), True)


def test_after_a_restart_what_was_told_one_by_one_is_known_from_what_was_in_a_digest() -> None:
    before, after = Told(), Told()
    before(key="a")
    before(key="b", may_send=False)
    told = before.desk.told(0)
    for key in ("a", "b"):
        after.desk.remember(made_alert(key=key), True, told, source="/s", partition=0, at=T0)
    assert after.desk.digested() == 1
    assert after("resolved", key="a") is SEND
    assert after("resolved", key="b") is DIGEST
    assert told == [short_id(made_alert(key="a").alert_id)]


def test_what_has_said_nothing_for_long_is_forgotten_and_memory_is_bounded() -> None:
    told = Told()
    told()
    assert [known.fingerprint for known in told.desk.firing(T0 + SILENT_SECONDS)] == [made_alert().fingerprint]
    assert list(told.desk.firing(T0 + SILENT_SECONDS + 1)) == []
    assert len(told.desk) == 0
    assert MAX_INCIDENTS <= 100_000


def test_the_oldest_incident_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.notify.desk.MAX_INCIDENTS", 2)
    told = Told()
    for key in ("a", "b", "c"):
        told(key=key, may_send=key != "a")
    assert [Alert.model_validate_json(known.kept or b"").entity.id for known in told.desk.firing(T0)] == ["b", "c"]
    assert told.desk.digested() == 0


def test_a_limit_lets_so_many_pass_and_as_many_again_in_its_time() -> None:
    burst = Burst(20, 600, T0)
    assert [burst.take(T0) for _ in range(10_000)].count(True) == 20
    assert [burst.take(T0 + 300) for _ in range(100)].count(True) == 10
    assert [burst.take(T0 + 100_000) for _ in range(100)].count(True) == 20
    assert not burst.take(T0), "a clock that is set back gives nothing"
    assert all(Burst(0, 600, T0).take(T0) for _ in range(1000))


def test_ten_thousand_incidents_are_one_message_of_bounded_size() -> None:
    gathered = Gathered()
    for number in range(10_000):
        gathered.add(made_alert(key=f"key-{number}", excess_tokens=number, summary="x" * 5000), T0 + number)
    digest = gathered.digest("overdraw", [3, 1], 10_000, T0)
    assert gathered.since == T0
    assert (digest.opened, digest.open_count, len(digest.top)) == (10_000, 10_000, TOP)
    assert digest.top[0].excess_tokens == 9_999
    assert digest.key == "overdraw-digest-overdraw-1"
    assert digest.title.startswith("[HIGH] 10,000 more incidents at once")
    assert len("\n".join(digest.lines())) < 3000
