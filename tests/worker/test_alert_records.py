from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.alerts import Alert
from stream.worker.faults import LATE
from stream.worker.feed import Feed, lost, silence
from stream.worker.outbox import alert_record, as_found
from tests.worker.fakes import T0, make_settings


def an_alert(**changes: Any) -> Alert:
    feed = Feed(3, make_settings())
    alert = feed.judge({"gap": lost(5)}, T0)
    assert alert is not None
    return alert.model_copy(update=changes)


def test_an_alert_is_a_cloud_event_in_binary_mode_keyed_by_its_fingerprint() -> None:
    alert = an_alert(status="updated", sequence=4)
    key, value, headers = alert_record(alert, "overdraw", 3)
    assert key == alert.fingerprint.encode()
    assert Alert.model_validate_json(value or b"") == alert
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": f"{alert.alert_id}:4".encode(),
        "ce_type": b"overdraw.alert.updated",
        "ce_source": b"/overdraw/overdraw/3",
        "ce_time": b"2026-03-01T00:00:00Z",
        "content-type": b"application/json",
    }


def test_an_incident_of_the_backlog_is_historical_and_pages_nobody() -> None:
    found = as_found(an_alert(severity="critical", severity_reason="huge"), T0 + 3601, 3600)
    assert found.historical
    assert found.severity == "warning"
    assert "critical but for the backlog" in found.severity_reason
    assert "huge" in found.severity_reason


@pytest.mark.parametrize("severity", ["info", "warning"])
def test_the_backlog_raises_no_severity(severity: str) -> None:
    assert as_found(an_alert(severity=severity), T0 + 1e6, 3600).severity == severity


def test_what_is_found_in_time_stays_as_it_is() -> None:
    found = as_found(an_alert(severity="critical"), T0 + 3600, 3600)
    assert (found.severity, found.historical) == ("critical", False)
    assert found.data_quality.lag_seconds == T0 + 3600 - found.updated_at


def test_an_incident_that_outlives_the_backlog_may_page() -> None:
    alert = an_alert(severity="critical", status="updated", updated_at=T0 + 9000)
    assert not as_found(alert, T0 + 9100, 3600).historical


# ---------------------------------------------------------------------- feed alerts


def test_a_feed_incident_opens_updates_and_resolves() -> None:
    feed = Feed(0, make_settings())
    opened = feed.judge({"late": LATE.finding(5, 100)}, T0)
    again = feed.judge({"late": LATE.finding(6, 120)}, T0 + 1)
    updated = feed.judge({"late": LATE.finding(6, 120), "silence": silence(120, 80)}, T0 + 2)
    resolved = feed.judge({}, T0 + 3)
    after = feed.judge({}, T0 + 4)
    assert again is None
    assert after is None
    assert opened is not None
    assert updated is not None
    assert resolved is not None
    assert [a.status for a in (opened, updated, resolved)] == ["opened", "updated", "resolved"]
    assert [a.sequence for a in (opened, updated, resolved)] == [0, 1, 2]
    assert [a.severity for a in (opened, updated, resolved)] == ["warning", "high", "high"]
    assert len({a.alert_id for a in (opened, updated, resolved)}) == 1
    assert resolved.resolved_at is not None
    assert resolved.resolved_at >= resolved.started_at


def test_silence_is_found_when_it_has_lasted_and_not_when_it_began() -> None:
    alert = Feed(0, make_settings()).judge({"silence": silence(7200, 80)}, T0)
    assert alert is not None
    assert (alert.started_at, alert.detected_at) == (T0, T0 + 7200)


@pytest.mark.parametrize(
    ("url", "link"),
    [
        (None, None),
        ("https://runbooks.test/overdraw", "https://runbooks.test/overdraw/feed"),
        ("a/", "a/feed"),
        ("b/{kind}.md", "b/feed.md"),
    ],
)
def test_a_feed_alert_links_to_its_own_runbook(url: str | None, link: str | None) -> None:
    alert = Feed(0, make_settings(runbook_url=url)).judge({"silence": silence(7200, 80)}, T0)
    assert alert is not None
    assert alert.links.runbook == link


@given(st.lists(st.sets(st.sampled_from(["late", "gap", "silence"])), max_size=30))
def test_alert_id_and_sequence_are_unique_and_at_most_one_incident_is_open(found: list[set[str]]) -> None:
    make = {"late": LATE.finding(5, 100), "gap": lost(3), "silence": silence(60, 80)}
    settings = make_settings()
    feed, said = Feed(0, settings), list[Alert]()
    for names in found:  # the shard's time may stand still all along
        alert = feed.judge({name: make[name] for name in names}, T0)
        if alert is not None:
            said.append(alert)
        feed = Feed(0, settings, feed.last)  # a restart after every step
        assert feed.still().keys() == names
    assert len({(alert.alert_id, alert.sequence) for alert in said}) == len(said)
    balance = 0
    for alert in said:
        balance += {"opened": 1, "updated": 0, "resolved": -1}[alert.status]
        assert balance in (0, 1)
