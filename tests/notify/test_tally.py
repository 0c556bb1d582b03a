"""How often people would be told, counted as the notifiers themselves decide."""

from __future__ import annotations

from typing import Any

import pytest
from services import T0, alone, config_of, made_alert

from stream.alerts import Alert
from stream.core.explain import PAGE_EXCESS_TOKENS
from stream.notify.config import Route
from stream.notify.hold import MOST_TOKENS
from stream.notify.tally import Act, Rehearsal, Tally, tally


def told(*alerts: Alert, **more: Any) -> Tally:
    """Of a channel that is alone."""
    return tally(alone(**{"hold_hours": 0, **more}), alerts)["chat"]


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


HOUR = 3600.0


def ticket(hours: float, status: str = "updated", severity: str = "warning", tokens: float = 5e5, **more: Any) -> Alert:
    """What is said of one ticket, so many hours after it opened."""
    at = T0 + hours * HOUR
    return made_alert(status=status, severity=severity, excess_tokens=tokens, at=at, started_at=T0, **more)


OPENED, OVER = ticket(0, "opened"), ticket(30, "resolved")


@pytest.mark.parametrize(
    ("life", "tallied", "why"),
    [
        ([OPENED, ticket(3, severity="high", tokens=2e6), OVER], (1, 0, 1), "a page in time is the one message"),
        ([OPENED, ticket(15, severity="high", tokens=2e6), OVER], (1, 1, 1), "a page later is another one"),
        ([OPENED, ticket(3, tokens=3e6), ticket(4, severity="high"), OVER], (1, 1, 1), "a large ticket does not wait"),
        ([OPENED, ticket(2), ticket(20, "resolved")], (1, 0, 1), "a ticket that stays one is told in its time"),
        ([OPENED, ticket(2, "resolved")], (1, 0, 0), "what is over in time is told once, when it is"),
        ([OPENED], (1, 0, 0), "what waits at the end of the alerts is told later"),
        ([ticket(0, "opened", kind="feed")], (1, 0, 0), "nor does a detector that is blind wait"),
    ],
)
def test_a_ticket_waits_at_a_channel_that_is_the_pager_too(
    life: list[Alert], tallied: tuple[int, int, int], why: str
) -> None:
    one = told(*life, hold_hours=12)
    assert (one.opened, one.worsened, one.ended) == tallied, why
    assert one.incidents == 1


def test_a_ticket_waits_by_itself_only_where_nothing_says_who_is_told_what() -> None:
    page = ticket(3, severity="high", tokens=2e6)
    assert tally(alone(), [OPENED, page])["chat"].per_incident == 1.0
    assert tally(alone(hold_hours=0), [OPENED, page])["chat"].per_incident == 2.0
    routes = [Route(notify=["chat"], severity=["warning", "high"])]
    assert tally(alone().model_copy(update={"routes": routes}), [OPENED, page])["chat"].per_incident == 2.0
    assert tally(alone(hold_hours=4).model_copy(update={"routes": routes}), [OPENED, page])["chat"].per_incident == 1.0
    only_tickets = alone(hold_hours=4).model_copy(update={"routes": [Route(notify=["chat"], severity=["warning"])]})
    said = Rehearsal(only_tickets).hear(OPENED)
    assert said["chat"] is Act.OPENED, "it is not told of pages: there is nothing to wait for"


def test_beside_a_pager_no_ticket_waits() -> None:
    said = Rehearsal(config_of("http://127.0.0.1:1")).hear(OPENED)
    assert said["chat"] is Act.OPENED
    assert said["bus"] is Act.OPENED, "programs never wait"


def test_the_size_of_a_page_is_the_detectors() -> None:
    assert MOST_TOKENS == PAGE_EXCESS_TOKENS


def test_what_reaches_nobody_is_not_counted() -> None:
    assert told(made_alert(severity="info"), made_alert(severity="info", status="resolved")) == Tally()
    assert told(made_alert(historical=True)) == Tally()
    assert Tally().per_incident is None


def test_a_storm_is_some_messages_and_a_digest() -> None:
    storm = [made_alert(key=f"key-{number}") for number in range(10_000)]
    assert told(*storm, burst=20) == Tally(incidents=10_000, opened=20, digested=9_980)


def some(count: int, hours: float, status: str = "updated", **more: Any) -> list[Alert]:
    return [ticket(hours, status, key=f"key-{number}", **more) for number in range(count)]


@pytest.mark.parametrize(
    "then", [[], some(40, 3, severity="high"), some(40, 3, tokens=3e6), some(40, 3, "resolved"), some(40, 13)]
)
def test_of_tickets_that_wait_the_limit_counts_what_is_told(then: list[Alert]) -> None:
    page = made_alert("other", at=T0 + 60, started_at=T0)
    one = told(*some(40, 0, "opened"), page, *then, hold_hours=12)
    assert (one.incidents, one.opened, one.worsened, one.digested) == (41, 21, 0, 20)


def test_the_limit_fills_again_with_the_alerts_own_time() -> None:
    alerts = [made_alert(key=f"key-{number}", at=T0 + 60 * number) for number in range(50)]
    assert told(*alerts, burst=20, burst_seconds=600).digested == 0
