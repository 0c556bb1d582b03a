"""How often people would be told, counted as the notifiers themselves decide."""

from __future__ import annotations

from typing import Any

from services import T0, config_of, made_alert

from stream.alerts import Alert
from stream.notify.tally import Tally, tally


def told(*alerts: Alert, **more: Any) -> Tally:
    """Of a channel that is alone."""
    config = config_of("http://127.0.0.1:1", **more)
    return tally(config.model_copy(update={"notifiers": {"chat": config.notifiers["chat"]}}), alerts)["chat"]


def test_an_incident_is_news_when_it_opens_when_it_gets_worse_and_when_it_ends() -> None:
    life = [
        made_alert(severity="warning"),
        made_alert(status="updated", severity="warning"),
        made_alert(status="updated", severity="high"),
        made_alert(status="updated", severity="high"),
        made_alert(status="resolved", severity="high"),
    ]
    assert told(*life) == Tally(incidents=1, opened=1, worsened=1, ended=1)
    assert told(*life).per_incident == 2.0
    by_name = tally(config_of("http://127.0.0.1:1"), life)
    assert by_name["pd"] == Tally(incidents=1, opened=1, ended=1), "it shows a rise at the incident that it has"
    assert by_name["chat"] == Tally(incidents=1, opened=1, ended=1), "the pager tells that it is a page now"


def test_what_reaches_nobody_is_not_counted() -> None:
    assert told(made_alert(severity="info"), made_alert(severity="info", status="resolved")) == Tally()
    assert told(made_alert(historical=True)) == Tally()
    assert Tally().per_incident is None


def test_a_storm_is_some_messages_and_a_digest() -> None:
    storm = [made_alert(key=f"key-{number}") for number in range(10_000)]
    assert told(*storm, burst=20) == Tally(incidents=10_000, opened=20, digested=9_980)


def test_the_limit_fills_again_with_the_alerts_own_time() -> None:
    alerts = [made_alert(key=f"key-{number}", at=T0 + 60 * number) for number in range(50)]
    assert told(*alerts, burst=20, burst_seconds=600).digested == 0
