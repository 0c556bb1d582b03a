"""What a gateway is to us: it says what it knows of a key, takes an action, and takes it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from stream.response.record import Before, Response


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one attempt: done; later (tried again, after `pause` seconds at the earliest); or never.

    `words` are for people, printable and without secrets.
    """

    verdict: Literal["done", "later", "never"]
    words: str = ""
    pause: float | None = None
    before: Before | None = None


DONE = Result("done")


class Gateway(Protocol):
    """A gateway. Nothing here raises but CancelledError; each attempt may be repeated without harm."""

    async def begin(self, active: Sequence[Response]) -> Result:
        """A responder has begun to work: bring in line what can be, with all that holds."""
        ...

    async def look(self, response: Response) -> Result:
        """What there is to restore, as `before` of the result."""
        ...

    async def apply(self, response: Response, before: Before, active: Sequence[Response]) -> Result:
        """Make it so; `active` is all that holds with it."""
        ...

    async def undo(self, response: Response, before: Before, active: Sequence[Response]) -> Result:
        """Make it as it was, unless somebody else has changed it since; `active` is all that holds without it."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
