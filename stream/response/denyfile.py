"""A file of what is denied, for gateways that read one. It is replaced as a whole: nobody reads half of it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stream.alerts import printable, rfc3339
from stream.response.config import FileConfig
from stream.response.gateway import DONE, Result
from stream.response.record import Before, Response


def entry_of(response: Response) -> dict[str, Any]:
    """What the deny list says of a response; `until` null: until it is taken off."""
    return {
        "key_id": response.entity.id,
        "action": response.action,
        "per_minute": response.per_minute,
        "unit": response.unit if response.per_minute is not None else None,
        "until": None if response.until is None else rfc3339(response.until),
        "response_id": response.response_id,
        "alert_id": response.alert_id,
    }


class DenyFile:
    """See the module. Each time the file says all that holds, so nothing has to be remembered of it."""

    def __init__(self, config: FileConfig) -> None:
        self._path, self._format = Path(config.path), config.format

    async def begin(self, active: Sequence[Response]) -> Result:
        """See `Gateway`: somebody may have deleted the file."""
        return await self.write(active)

    async def look(self, response: Response) -> Result:
        """See `Gateway`."""
        return Result("done", before=Before())

    async def apply(self, response: Response, before: Before, active: Sequence[Response]) -> Result:
        """See `Gateway`."""
        return await self.write(active)

    async def undo(self, response: Response, before: Before, active: Sequence[Response]) -> Result:
        """See `Gateway`."""
        return await self.write(active)

    async def write(self, active: Sequence[Response]) -> Result:
        """Replace the file by one that says this."""
        try:
            await asyncio.to_thread(_replace, self._path, text_of(active, self._format))
        except OSError as error:
            return Result("later", f"cannot write {printable(str(self._path), 200)}: {error.strerror}")
        return DONE

    async def close(self) -> None:
        """See `Gateway`."""


def text_of(active: Sequence[Response], form: str) -> str:
    """The content of the file: of one key each action once, the strictest; in the order of the ids.

    As lines it has the ids of blocked keys; an id that holds a line break or another control character is left out,
    for it would be another id, or several.
    """
    strictest: dict[tuple[str, str], Response] = {}
    for response in active:
        known = strictest.get((response.entity.id, response.action))
        if known is None or _strictness(response) > _strictness(known):
            strictest[response.entity.id, response.action] = response
    chosen = [strictest[name] for name in sorted(strictest)]
    if form == "lines":
        ids = sorted({one.entity.id for one in chosen if one.action == "block" and one.entity.id.isprintable()})
        return "".join(f"{key_id}\n" for key_id in ids)
    return json.dumps({"schema_version": 1, "denied": [entry_of(one) for one in chosen]}, indent=1) + "\n"


def _strictness(response: Response) -> tuple[float, float]:
    until = float("inf") if response.until is None else response.until
    return -(response.per_minute or 0), until


def _replace(path: Path, text: str) -> None:
    """Write a file beside it and put that in its place: on disk before the name is."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
