"""What the control topic says, as far as it is for the responder: blocks and allow rules, and what it said itself."""

from __future__ import annotations

from collections.abc import Sequence

from stream.control import Allow, Block, Message, Remove, Unblock, is_responders
from stream.response.board import AllowRule, Ban
from stream.settings import Settings
from stream.worker.control.topic import ControlTopic, Said

MAX_KEPT = 100_000
"""Keys with a last word, and rules; beyond it the oldest are forgotten."""


class Orders:
    """What holds of the control topic; `complete` once all has been read.

    bans: the operators' last word about each key; rules: the allow rules that nobody has removed; told: by key, the
    blocks that a responder has told of and not taken back
    """

    def __init__(self, settings: Settings) -> None:
        self.complete = False
        self.bans: dict[str, Ban] = {}
        self.rules: dict[str, AllowRule] = {}
        self.told: dict[str, Block] = {}
        self.topic = ControlTopic(settings, self._begin, self._hear)
        self._begin(None)

    def _begin(self, _: str | None) -> None:
        self._fresh: tuple[dict[str, Ban], dict[str, AllowRule], dict[str, Block]] = ({}, {}, {})

    def _hear(self, batch: Sequence[Said], complete: bool) -> None:
        for said in batch:
            if said.message is not None:
                take(said.message, *self._fresh)
        if complete:  # until then what was known before holds
            self.bans, self.rules, self.told = self._fresh
            self.complete = True


def take(message: Message, bans: dict[str, Ban], rules: dict[str, AllowRule], told: dict[str, Block]) -> None:
    """Take up the next message."""
    if is_responders(message):
        told.pop(message.key_id, None)
        if isinstance(message, Block):
            told[message.key_id] = message
    elif isinstance(message, Block | Unblock):
        until = message.until if isinstance(message, Block) else None
        bans.pop(message.key_id, None)
        bans[message.key_id] = Ban(
            message.key_id, message.id, isinstance(message, Block), message.at, message.by, message.why, until
        )
    elif isinstance(message, Allow):
        rules[message.id] = AllowRule(message.id, message.scope.type, message.scope.id or "", message.until)
    elif isinstance(message, Remove):
        rules.pop(message.rule, None)
    for kept in (bans, rules, told):
        if len(kept) > MAX_KEPT:
            kept.pop(next(iter(kept)))
