"""What a service is to us: how it takes a message, and what it says when it has it. No I/O here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from stream.notify.digest import Digest
from stream.notify.message import Message


@dataclass(frozen=True, slots=True)
class Request:
    """One POST: where, with which headers, and the body. Each may hold a secret: never show them."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)


class Notifier(Protocol):
    """A service that is told of alerts. `now` is epoch seconds; every method is pure."""

    type: ClassVar[str]
    dedupes: ClassVar[bool]
    """Whether a request that is repeated is told to nobody a second time."""
    every_update: ClassVar[bool]
    """Whether it takes each update; one that does not hears of a ticket that becomes a page, if no pager tells that."""
    resend_seconds: ClassVar[float | None]
    """How often it has to be told what still is; None where telling once will do."""

    def alert(self, message: Message, now: float) -> Request:
        """What to send for an alert."""
        ...

    def digest(self, digest: Digest, now: float) -> Request:
        """What to send for the incidents that came too many at once."""
        ...

    def firing(self, messages: Sequence[Message], now: float) -> Request:
        """What to send, all `resend_seconds`, for the incidents that are open. Raises NotImplementedError without."""
        ...

    def accepted(self, status: int, body: bytes) -> bool:
        """Whether this answer says that the service has it."""
        ...

    def misconfigured(self, status: int, body: bytes) -> bool:
        """Whether an answer that faults the request faults what every request holds, such as a key."""
        ...


def is_2xx(status: int) -> bool:
    """Whether an HTTP status is a success."""
    return 200 <= status < 300


def cut(text: str, limit: int) -> str:
    """Text of at most `limit` characters.

    >>> cut("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"
