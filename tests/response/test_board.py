"""What is recommended, approved, applied and undone, by whose word and when: on a clock of our own, with no gateway."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy import T0, config_of, made_alert

from stream.alerts import SILENT_SECONDS, Alert, Entity
from stream.response.board import KEEP_SECONDS, AllowRule, Ban, Board
from stream.response.config import ResponseConfig
from stream.response.record import (
    MAX_STEPS,
    TRANSITIONS,
    Before,
    Happening,
    Response,
    State,
    Word,
    limit_of,
    response_id_of,
)

NOW = T0 + 100


def settle(board: Board, now: float = NOW) -> list[Response]:
    """What changes by itself, kept."""
    found: list[Response] = []
    while changed := list(board.due(now)):
        for response in changed:
            board.keep(response)
        found += changed
    return found


def apply_all(board: Board, now: float = NOW) -> list[Response]:
    """Apply what the limits leave room for, as if all gateways took it."""
    done = []
    for response in board.ready(now):
        until = response.until if response.alert_id is None else now + (response.for_seconds or 0)
        after = response.after("apply", now, "test", "", applied_at=now, until=until, before={"proxy": Before()})
        board.keep(after)
        done.append(after)
    return done


def board_of(*alerts: Alert, **more: Any) -> Board:
    board = Board(config_of(**more))
    for alert in alerts:
        board.take(alert, T0)
    settle(board)
    return board


def only(board: Board) -> Response:
    (response,) = board.responses.values()
    return response


def word(response: Response, verb: str, word_id: str = "w1", at: float = NOW) -> Word:
    return Word.model_validate(
        {"word": verb, "word_id": word_id, "response_id": response.response_id, "at": at, "by": "ada", "why": "so"}
    )


# ---------------------------------------------------------------------- what is recommended


@pytest.mark.parametrize(
    ("changes", "action", "why"),
    [
        ({"severity": "critical"}, "block", "the default"),
        ({"severity": "high"}, "throttle", "the default"),
        ({"severity": "warning"}, "review", "a person looks first"),
        ({"severity": "info"}, None, "nothing is recommended"),
        ({"severity": "critical", "historical": True}, None, "what is found in a backlog is no reason to act"),
        ({"severity": "critical", "kind": "feed", "entity": Entity(type="partition", id="3")}, None, "we are blind"),
        ({"severity": "critical", "entity": Entity(type="network", id="192.0.2.0/24")}, "review", "it is no key"),
        ({"severity": "high", "unit": "USD"}, "review", "no gateway limits that"),
        ({"severity": "critical", "status": "resolved"}, None, "it is over"),
    ],
)
def test_the_severity_says_what_is_recommended(changes: dict[str, Any], action: str | None, why: str) -> None:
    board = board_of(made_alert(**changes))
    assert [response.action for response in board.responses.values()] == ([action] if action else []), why


@pytest.mark.parametrize(
    ("unit", "upper", "seconds", "expected"),
    [
        ("tokens", 9_000, 600, (900, "tokens")),
        ("tokens", 0.2, 600, (1, "tokens")),
        ("calls", 120, 3600, (2, "calls")),
        ("USD", 9, 600, None),
    ],
)
def test_a_throttle_is_the_upper_end_of_what_is_usual(
    unit: str, upper: float, seconds: float, expected: tuple[int, str] | None
) -> None:
    alert = made_alert(unit=unit, upper=upper)
    window = alert.window.model_copy(update={"horizon_seconds": seconds})
    assert limit_of(alert.model_copy(update={"window": window})) == expected


def test_a_throttle_leaves_a_key_its_busiest_hour_where_the_alert_knows_it() -> None:
    alert = made_alert(unit="tokens", upper=9_000)
    assert limit_of(alert.model_copy(update={"usual_per_minute": 2_400.4})) == (2400, "tokens")
    assert limit_of(alert.model_copy(update={"usual_per_minute": 0.0})) == (1, "tokens")
    calls = made_alert(unit="calls", upper=120).model_copy(update={"usual_per_minute": 2_400.4})
    assert limit_of(calls) == (12, "calls")


@pytest.mark.parametrize(
    ("rule", "covered", "why"),
    [
        (AllowRule("r", "key", "key-17"), True, "the key"),
        (AllowRule("r", "key", "key-1"), False, "another key"),
        (AllowRule("r", "pattern", "key-*"), True, "its pattern"),
        (AllowRule("r", "key", "key-17", until=NOW), False, "the rule is over"),
        (AllowRule("r", "key", "key-17", until=NOW + 1), True, "the rule holds"),
        (AllowRule("r", "org", "acme"), False, "nobody says whose it is"),
    ],
)
def test_nothing_is_done_to_a_key_under_an_allow_rule(rule: AllowRule, covered: bool, why: str) -> None:
    board = Board(config_of(approved=["block"]))
    board.allow(rule)
    board.take(made_alert(severity="critical"), T0)
    settle(board)
    assert bool(board.responses) != covered, why


def test_an_allow_rule_that_comes_later_ends_what_is_active() -> None:
    board = board_of(made_alert(severity="critical"), approved=["block"])
    apply_all(board)
    board.allow(AllowRule("r", "pattern", "key-*"))
    settle(board)
    assert only(board).state == "ending"
    assert "allow rule r" in only(board).steps[-1].why


def test_a_key_that_the_file_protects_is_left_alone() -> None:
    assert board_of(made_alert(severity="critical"), never=["key-*"]).responses == {}


# ---------------------------------------------------------------------- approval


def test_nothing_is_applied_without_approval() -> None:
    board = board_of(made_alert(severity="critical"))
    assert board.ready(NOW) == []
    board.hear(word(only(board), "approve"))
    settle(board)
    assert [response.response_id for response in board.ready(NOW)] == [only(board).response_id]
    assert (only(board).steps[-1].by, only(board).steps[-1].why) == ("ada", "so")


def test_the_file_may_approve_of_an_action_for_all() -> None:
    board = board_of(made_alert(severity="high"), made_alert(key="b", severity="critical"), approved=["throttle"])
    assert {response.action: response.state for response in board.responses.values()} == {
        "throttle": "approved", "block": "proposed",
    }  # fmt: skip


def test_a_word_counts_once_however_often_it_is_read() -> None:
    board = board_of(made_alert(severity="critical"))
    board.hear(word(only(board), "approve"))
    settle(board)
    apply_all(board)
    steps = only(board).steps
    board.hear(word(only(board), "approve"))
    assert settle(board) == []
    assert only(board).steps == steps


def test_a_review_cannot_be_approved() -> None:
    board = board_of(made_alert(severity="warning"))
    board.hear(word(only(board), "approve"))
    settle(board)
    assert only(board).state == "proposed"


def test_a_worse_incident_gets_the_stronger_recommendation_alone() -> None:
    board = board_of(made_alert(severity="high"))
    board.take(made_alert(severity="critical", status="updated", sequence=1), T0)
    settle(board)
    assert {one.action: one.state for one in board.responses.values()} == {"throttle": "withdrawn", "block": "proposed"}


# ---------------------------------------------------------------------- the end


def test_the_end_of_an_incident_undoes_what_was_done_and_withdraws_what_was_not() -> None:
    board = board_of(made_alert(severity="critical"), made_alert(key="b", severity="high"), approved=["block"])
    apply_all(board)
    for key in ("key-17", "b"):
        board.take(made_alert(key=key, status="resolved"), T0 + 50)
    settle(board)
    assert {one.action: one.state for one in board.responses.values()} == {"block": "ending", "throttle": "withdrawn"}


def test_what_is_applied_ends_at_its_time_and_does_not_begin_again_by_itself() -> None:
    board = board_of(made_alert(severity="critical"), approved=["block"], hours={"block": 1})
    apply_all(board)
    settle(board, NOW + 3599)
    assert only(board).state == "active"
    settle(board, NOW + 3600)
    assert only(board).state == "ending"
    board.keep(only(board).after("end", NOW + 3601, "test", "", before={}))
    assert settle(board, NOW + 3700) == []
    board.hear(word(only(board), "approve", at=NOW + 3700))
    settle(board, NOW + 3700)
    assert only(board).state == "approved", "an operator can have it once more"


def test_an_incident_that_says_nothing_for_a_day_is_over() -> None:
    board = board_of(made_alert(severity="critical"), approved=["block"], hours={"block": 700})
    apply_all(board)
    settle(board, T0 + SILENT_SECONDS)
    assert only(board).state == "active"
    settle(board, T0 + SILENT_SECONDS + 1)
    assert only(board).state == "ending"


def test_an_operator_can_undo_it_and_decline_it() -> None:
    board = board_of(made_alert(severity="critical"), made_alert(key="b", severity="high"), approved=["block"])
    (block,) = apply_all(board)
    (throttle,) = (one for one in board.responses.values() if one.action == "throttle")
    board.hear(word(block, "undo"))
    board.hear(word(throttle, "decline"))
    settle(board)
    assert {one.action: one.state for one in board.responses.values()} == {"block": "ending", "throttle": "declined"}


# ---------------------------------------------------------------------- limits


def test_no_more_is_applied_in_an_hour_than_the_file_says_and_all_of_it_after_that() -> None:
    alerts = [made_alert(key=f"key-{n}", severity="critical") for n in range(7)]
    board = board_of(*alerts, approved=["block"], limits={"applied_per_hour": 3})
    assert len(apply_all(board)) == 3
    assert apply_all(board, NOW + 3599) == []
    assert len(apply_all(board, NOW + 3600)) == 3
    assert len(apply_all(board, NOW + 7200)) == 1


def test_no_more_is_active_at_once_than_the_file_says() -> None:
    alerts = [made_alert(key=f"key-{n}", severity="critical") for n in range(7)]
    board = board_of(*alerts, approved=["block"], limits={"active_at_once": 2})
    first, _ = apply_all(board)
    assert apply_all(board, NOW + 7200) == []
    board.keep(first.after("undo", NOW, "ada", "so").after("end", NOW, "test", "", before={}))
    assert len(apply_all(board, NOW + 7200)) == 1


# ---------------------------------------------------------------------- an operator's own block


def ban(blocked: bool = True, at: float = NOW, until: float | None = None, word_id: str = "b1") -> Ban:
    return Ban("key-17", word_id, blocked, at, "ada", "leaked", until)


def test_an_operators_block_is_applied_beyond_the_limits_and_its_unblock_ends_every_block_of_the_key() -> None:
    board = board_of(made_alert(severity="critical"), approved=["block"], limits={"applied_per_hour": 1})
    apply_all(board)
    board.ban(ban(until=NOW + 600))
    settle(board)
    (by_hand,) = apply_all(board)
    assert (by_hand.steps[0].by, by_hand.until) == ("ada", NOW + 600)
    board.ban(ban(blocked=False, at=NOW + 60, word_id="b2"))
    settle(board, NOW + 60)
    assert {one.state for one in board.responses.values()} == {"ending"}


def test_a_block_whose_time_is_over_is_not_applied_by_a_start() -> None:
    board = Board(config_of())
    board.ban(ban(until=NOW - 1))
    assert settle(board) == []


def test_an_unblock_is_not_about_what_is_blocked_later() -> None:
    board = board_of()
    board.ban(ban(blocked=False, at=NOW - 3600))
    board.take(made_alert(severity="critical"), T0)
    settle(board)
    board.hear(word(only(board), "approve"))
    settle(board)
    apply_all(board)
    assert settle(board) == []
    assert only(board).state == "active"


def test_a_second_response_to_a_key_restores_what_was_there_before_the_first() -> None:
    board = board_of(made_alert(severity="critical"), approved=["block"])
    (first,) = board.ready(NOW)
    board.keep(
        first.after(
            "apply", NOW, "test", "", applied_at=NOW, before={"proxy": Before(limit=7), "b": Before(touched=False)}
        )
    )
    board.ban(ban())
    settle(board)
    (second,) = board.ready(NOW)
    assert board.restored(second) == {"proxy": Before(limit=7)}, "and where the first did nothing it looks itself"


# ---------------------------------------------------------------------- the record


@pytest.mark.parametrize(("state", "happening"), list(product(get_args(State), get_args(Happening))))
def test_the_life_cycle_is_its_table(state: State, happening: Happening) -> None:
    board = board_of(made_alert(severity="critical"))
    response = only(board).model_copy(update={"state": state})
    after = response.after(happening, NOW, "ada", "so")
    expected = TRANSITIONS.get((state, happening), state)
    assert after.state == expected
    assert (len(after.steps) == len(response.steps)) == ((state, happening) not in TRANSITIONS)


def test_a_record_survives_its_json_and_stays_bounded() -> None:
    response = only(board_of(made_alert(key="a\x1b\u202e" * 60, severity="critical")))
    for number in range(200):
        response = response.model_copy(update={"state": "proposed"})
        response = response.after("approve", NOW + number, "ada\x1b" * 99, "why\u202e" * 999)
    assert len(response.steps) == MAX_STEPS
    assert response.steps[0].state == "proposed", "how it began is kept"
    text = response.model_dump_json()
    assert len(text) < 40_000
    assert Response.model_validate_json(text) == response
    assert all(step.by.isprintable() and step.why.isprintable() for step in response.steps)


def test_what_is_over_is_forgotten_and_what_is_open_is_not() -> None:
    board = board_of(made_alert(severity="critical"), made_alert(key="b", severity="critical"))
    first, _ = board.responses.values()
    board.keep(first.after("decline", NOW, "ada", "so"))
    assert board.old(NOW + KEEP_SECONDS) == []
    assert board.old(NOW + KEEP_SECONDS + 1) == [first.response_id]


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=4))
def test_alerts_that_are_read_again_or_in_another_order_of_keys_change_nothing(
    order: list[int], again: list[int]
) -> None:
    alerts = [made_alert(key=f"key-{n}", severity="critical") for n in range(6)]
    board = Board(config_of())
    for number in [*order, *again]:
        board.take(alerts[number], T0)
    settle(board)
    assert set(board.responses) == {response_id_of("block", alert.alert_id) for alert in alerts}
    for alert in alerts:
        board.take(made_alert(key=alert.entity.id, status="resolved"), T0)
    settle(board)
    assert {one.state for one in board.responses.values()} == {"withdrawn"}


def test_a_rehearsal_is_the_default() -> None:
    assert ResponseConfig().mode == "dry-run"
    board = Board(ResponseConfig(approved=["block"]))
    board.take(made_alert(severity="critical"), T0)
    settle(board)
    assert only(board).dry_run
