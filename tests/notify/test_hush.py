"""What operators want to hear no more of, and whose incidents another one speaks for."""

from __future__ import annotations

from typing import Any

import pytest
from services import T0, made_alert

from stream.alerts import Alert, ChannelScore, Entity, Member, Members, fingerprint_of
from stream.control import MESSAGE
from stream.notify.desk import Decision, Desk
from stream.notify.hush import Hush

SEND, SILENT = Decision.SEND, Decision.SILENT


class Told:
    """A desk whose hush and clock are moved by hand."""

    def __init__(self, every_update: bool = True) -> None:
        self.now = T0
        self.hush = Hush()
        self.desk = Desk(dedupes=True, every_update=every_update, keeps=True, hush=self.hush, clock=lambda: self.now)

    def __call__(self, alert: Alert) -> Decision:
        leave = self.desk.needs_leave(alert, True)
        decision = self.desk.judge(alert, True, True, source="/s", partition=0, at=self.now)
        assert not (leave and decision is SILENT), "what is not said counts against no limit"
        return decision

    def say(self, kind: str, **content: Any) -> None:
        words = {"kind": kind, "id": "r", "at": self.now, "by": "ann", "why": "because", **content}
        self.hush.take(MESSAGE.validate_python(words))

    def firing(self) -> int:
        return len(list(self.desk.firing(self.now)))


def group(kind: str, entity_type: str, entity_id: str, keys: tuple[str, ...] = (), **changes: Any) -> Alert:
    entity = Entity(type=entity_type, id=entity_id)  # type: ignore[arg-type]
    members = Members(count=len(keys), top=[Member(key_id=key, z=1.0, excess_tokens=1.0) for key in keys])
    alert = made_alert(**changes)
    return alert.model_copy(
        update={
            "kind": kind, "entity": entity, "members": members, "alert_id": fingerprint_of(entity),
            "fingerprint": fingerprint_of(entity),
        }
    )  # fmt: skip


def test_an_incident_that_somebody_is_at_is_not_repeated_until_it_gets_worse() -> None:
    told = Told()
    alert = made_alert(severity="high")
    assert told(alert) is SEND
    assert told.firing() == 1
    told.say("acknowledge", alert_id=alert.alert_id, entity=alert.entity, severity="high")
    assert told.firing() == 0
    assert told(made_alert(status="updated", severity="high")) is SILENT
    assert told(made_alert(status="updated", severity="critical")) is SEND
    assert told.firing() == 1
    assert told(made_alert(status="resolved")) is SEND


@pytest.mark.parametrize(
    ("muted", "quiet"),
    [
        (Entity(type="key", id="key-1"), True),
        (Entity(type="org", id="acme"), True),
        (Entity(type="key", id="key-2"), False),
        (Entity(type="network", id="key-1"), False),
    ],
)
def test_nothing_is_said_of_what_is_muted_and_it_is_told_afterwards(muted: Entity, quiet: bool) -> None:
    told = Told()
    alert = made_alert(key="key-1").model_copy(update={"org_id": "acme"})
    told.say("mute", entity=muted, until=T0 + 3600)
    assert told(alert) is (SILENT if quiet else SEND)
    told.now = T0 + 3600
    later = alert.model_copy(update={"status": "updated", "sequence": 1})
    assert told(later) is SEND


def test_a_mute_ends_when_it_is_taken_back_and_keeps_an_end_from_nobody() -> None:
    told = Told()
    alert = made_alert(key="key-1")
    assert told(alert) is SEND
    told.say("mute", entity=alert.entity, until=T0 + 3600)
    assert told(made_alert(key="key-1", status="updated", severity="critical")) is SILENT
    assert told.firing() == 0
    told.now += 60
    told.say("unmute", entity=alert.entity)
    assert told.firing() == 1
    assert told(made_alert(key="key-1", status="updated", severity="critical")) is SEND, "what got worse meanwhile"
    told.say("mute", entity=alert.entity, until=T0 + 3600)
    assert told(made_alert(key="key-1", status="resolved")) is SEND, "who was told hears of the end"


def test_after_a_restart_what_was_muted_then_is_not_taken_for_told() -> None:
    told = Told()
    alert = made_alert(key="key-1")
    told.say("mute", entity=alert.entity, until=T0 + 60)
    told.now = T0 + 600
    assert not told.desk.remember(alert, True, None, source="/s", partition=0, at=T0 + 10)
    assert len(told.desk) == 0
    assert told.desk.remember(alert, True, None, source="/s", partition=0, at=T0 + 100)


def test_a_member_under_its_campaign_and_a_key_under_its_organisation_are_not_told() -> None:
    told = Told(every_update=False)
    assert told(group("campaign", "network", "192.0.2.0/24", ("key-1", "key-2"), severity="high")) is SEND
    assert told(made_alert(key="key-1", severity="high")) is SILENT
    assert told(made_alert(key="key-1", severity="critical")) is SEND, "worse than what speaks for it"
    assert told(made_alert(key="key-3", severity="high")) is SEND, "no member"
    of_acme = made_alert(key="key-4", severity="warning").model_copy(update={"org_id": "acme"})
    assert told(group("campaign", "org", "acme", severity="high")) is SEND
    assert told(of_acme) is SILENT
    over = group("campaign", "org", "acme", severity="high").model_copy(update={"status": "resolved"})
    assert told(over) is SEND
    assert told(of_acme.model_copy(update={"status": "updated"})) is SEND, "nobody speaks for it any more"


def test_a_campaign_that_nobody_was_told_of_speaks_for_nobody() -> None:
    told = Told()
    campaign = group("campaign", "network", "192.0.2.0/24", ("key-1",), severity="high")
    told.say("mute", entity=campaign.entity, until=T0 + 60)
    assert told(campaign) is SILENT
    assert told(made_alert(key="key-1", severity="high")) is SEND


def test_the_same_fault_of_the_feed_on_many_partitions_is_told_once() -> None:
    told = Told()

    def blind(partition: int, *faults: str) -> Alert:
        channels = [ChannelScore(name=name, z=1.0) for name in faults]
        return group("feed", "partition", str(partition), severity="high").model_copy(update={"channels": channels})

    assert told(blind(0, "gone")) is SEND
    assert told(blind(1, "gone")) is SILENT
    assert told(blind(2, "gone", "late")) is SEND, "it says more"
    assert told(blind(0, "gone").model_copy(update={"status": "resolved"})) is SEND


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.notify.hush.MAX_MUTES", 3)
    told = Told()
    for number in range(10):
        told.say("mute", entity={"type": "key", "id": f"key-{number}"}, until=T0 + 3600)
        told.say("acknowledge", alert_id=f"{number:032x}", entity={"type": "key", "id": "k"}, severity="high")
        told.say("mute", entity={"type": "key", "id": "key-9"}, until=T0 + 3600 + number)
    assert len(told.hush._mutes) == len(told.hush._acknowledged) == 3
