"""What of the operators' word holds at a moment: the fold of the control topic, for people and for other programs."""

from __future__ import annotations

from collections.abc import Iterable

from stream.control import Allow, Block, Maintenance, Message, Mute, Remove, Unblock, Unmute

Held = Mute | Maintenance | Allow | Block


class Standing:
    """Mutes, planned events, allow rules and blocks that nobody has taken back."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._held: dict[str, Held] = {}
        for message in messages:
            self.take(message)

    def take(self, message: Message) -> None:
        """Take up the next message, in the order of the topic; of several about one subject the last one holds."""
        if isinstance(message, Unmute | Remove | Unblock):
            self._held.pop(message.subject, None)
        elif isinstance(message, Mute | Maintenance | Allow | Block):
            self._held.pop(message.subject, None)
            self._held[message.subject] = message

    def at(self, now: float) -> list[Held]:
        """Those that are not over at `now` (epoch seconds), in the order in which they were said.

        A planned event that is still to come is among them.
        """
        return [message for message in self._held.values() if message.until is None or message.until > now]

    def allowed(self, key_id: str, org_id: str | None, now: float) -> Allow | None:
        """The allow rule with the highest limit that is about a key, if any: nothing is to be done to such a key."""
        found = [rule for rule in self.at(now) if isinstance(rule, Allow) and rule.scope.fits(key_id, org_id)]
        return max(found, key=lambda rule: rule.tokens_per_hour, default=None)

    def blocked(self, now: float) -> dict[str, Block]:
        """The keys that are blocked, and by whose word; by an operator's, if he and the responder have."""
        found = [rule for rule in self.at(now) if isinstance(rule, Block)]
        return {rule.key_id: rule for rule in sorted(found, key=lambda rule: rule.response_id is None)}

    def rule(self, rule_id: str, now: float) -> Maintenance | Allow | None:
        """A planned event or an allow rule by its id; None if there is none, or no more."""
        return next(
            (rule for rule in self.at(now) if isinstance(rule, Maintenance | Allow) and rule.id == rule_id), None
        )
