"""What operators say of keys: the last word counts, and an allow rule holds until it is removed."""

from __future__ import annotations

from proxy import T0

from stream.control import Allow, Block, Message, Remove, Scope, Unblock
from stream.response.board import AllowRule, Ban
from stream.worker.responder.orders import take

SAID = {"at": T0, "by": "ada", "why": "so"}


def folded(*messages: Message) -> tuple[dict[str, Ban], dict[str, AllowRule], dict[str, Block]]:
    bans: dict[str, Ban] = {}
    rules: dict[str, AllowRule] = {}
    told: dict[str, Block] = {}
    for message in messages:
        take(message, bans, rules, told)
    return bans, rules, told


def test_the_last_word_about_a_key_counts() -> None:
    block = Block(id="b1", key_id="key-17", until=T0 + 60, **SAID)
    assert folded(block)[0] == {"key-17": Ban("key-17", "b1", True, T0, "ada", "so", T0 + 60)}
    bans, *_ = folded(block, Unblock(id="b2", key_id="key-17", **SAID))
    assert not bans["key-17"].blocked


def test_an_allow_rule_holds_until_it_is_removed() -> None:
    allow = Allow(id="r1", scope=Scope(type="pattern", id="batch-*"), tokens_per_hour=9, until=T0 + 60, **SAID)
    assert folded(allow)[1] == {"r1": AllowRule("r1", "pattern", "batch-*", T0 + 60)}
    assert folded(allow, Remove(id="r2", rule="r1", **SAID))[1] == {}


def test_what_a_responder_has_told_is_no_word_of_an_operator() -> None:
    """Else it would answer itself."""
    block = Block(id="b1", key_id="key-17", response_id="0" * 16, **SAID)
    assert folded(block) == ({}, {}, {"key-17": block})
    operators = Block(id="b2", key_id="key-17", **SAID)
    bans, _, told = folded(block, operators, Unblock(id="b3", key_id="key-17", response_id="0" * 16, **SAID))
    assert (bans["key-17"].blocked, told) == (True, {})
