"""What is done at the gateways, with the record written before it, so that whatever is killed can be undone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from stream.response.board import SYSTEM, Board
from stream.response.config import ResponseConfig
from stream.response.gateway import Gateway, Result
from stream.response.record import Response

PAUSE_SECONDS = (1.0, 60.0)
ROUNDS = 10
"""Of changes that follow from one another: a proposal, its approval, its end."""

log = logging.getLogger(__name__)


class Keeper(Protocol):
    """Who writes records: `stream.worker.responder.log.Log`."""

    async def write(self, changed: list[Response], deleted: list[str] = ...) -> None:
        """Keep them on the board and in Kafka."""
        ...


class Acts:
    """Brings the board and the gateways up to date. `stepped(response)` and `failed(gateway)` count."""

    def __init__(
        self,
        config: ResponseConfig,
        board: Board,
        gateways: Mapping[str, Gateway],
        keeper: Keeper,
        *,
        stepped: Callable[[Response], None],
        failed: Callable[[str], None],
    ) -> None:
        self._config, self._board, self._gateways, self._keeper = config, board, gateways, keeper
        self._stepped, self._failed = stepped, failed
        self._again: dict[str, tuple[float, float]] = {}
        """By response: when it is tried again, and the pause that led there."""

    async def __call__(self, now: float) -> None:
        """Do what is due. Raises KafkaError; a gateway's trouble is kept in the record."""
        for _ in range(ROUNDS):
            changed = list(self._board.due(now))
            if not changed:
                break
            await self._write(*changed)
        for response in self._board.ending():
            if self._is_time(response, now):
                await self._undo(response, now)
        for response in self._board.ready(now):
            if self._is_time(response, now):
                await self._apply(response, now)
        if old := self._board.old(now):
            await self._keeper.write([], old)
        self._again = {name: again for name, again in self._again.items() if name in self._board.responses}

    def _is_time(self, response: Response, now: float) -> bool:
        return self._again.get(response.response_id, (0.0, 0.0))[0] <= now

    async def _write(self, *responses: Response) -> None:
        """Keep what has changed, and count and log each new state."""
        before = {one.response_id: self._board.responses.get(one.response_id) for one in responses}
        await self._keeper.write(list(responses))
        for response in responses:
            known = before[response.response_id]
            if known is None or known.state != response.state:
                self._stepped(response)
                step = response.steps[-1]
                rehearsal = " (rehearsal)" if response.dry_run else ""
                log.info("%s: %s%s, by %s: %s", response.state, response.what, rehearsal, step.by, step.why)

    async def _apply(self, response: Response, now: float) -> None:
        dry_run = self._config.mode == "dry-run"
        until = response.until
        if response.alert_id is not None:
            until = now + (response.for_seconds or 0.0)
        response = response.model_copy(update={"dry_run": dry_run, "until": until})
        if not dry_run:
            before = self._board.restored(response) | response.before
            for name, gateway in self._gateways.items():
                if name not in before:
                    result = await gateway.look(response)
                    if result.before is None:
                        await self._met(response, name, result, now)
                        return
                    before[name] = result.before
            response = response.model_copy(update={"before": before})
            await self._write(response)  # before the gateway is touched: else nobody would know what was there
            held = [*(one for one in self._board.active() if one.response_id != response.response_id), response]
            for name, gateway in self._gateways.items():
                result = await gateway.apply(response, before[name], held)
                if result.verdict != "done":
                    await self._met(response, name, result, now)
                    return
        why = "rehearsed: nothing was told to a gateway" if dry_run else f"at {', '.join(self._gateways)}"
        self._again.pop(response.response_id, None)
        await self._write(response.after("apply", now, SYSTEM, why, applied_at=now))

    async def _undo(self, response: Response, now: float) -> None:
        before = dict(response.before)
        for name in list(before):
            gateway = self._gateways.get(name)
            if gateway is None:
                words = f"gateway {name} is no longer in the response file: put it back, or undo this there by hand"
                await self._met(response, name, Result("later", words), now)
                return
            held = [one for one in self._board.active() if one.response_id != response.response_id]
            result = await gateway.undo(response, before[name], held)
            if result.verdict != "done":
                await self._met(response, name, Result("later", result.words, result.pause), now)
                return
            del before[name]
            response = response.model_copy(update={"before": dict(before)})
            if before:
                await self._write(response)
        self._again.pop(response.response_id, None)
        why = "rehearsed" if response.dry_run else "as it was before"
        await self._write(response.after("end", now, SYSTEM, why, before={}))

    async def _met(self, response: Response, name: str, result: Result, now: float) -> None:
        """A gateway did not take it: once more later, or never."""
        self._failed(name)
        words = f"{name}: {result.words}"
        if result.verdict == "never":
            self._again.pop(response.response_id, None)
            await self._write(response.after("refuse", now, SYSTEM, words))
            return
        pause = min(max(PAUSE_SECONDS[0], 2 * self._again.get(response.response_id, (0.0, 0.0))[1]), PAUSE_SECONDS[1])
        self._again[response.response_id] = (now + max(pause, result.pause or 0.0), pause)
        if response.trouble != words or response != self._board.responses.get(response.response_id):
            log.warning("%s is tried again: %s", response.what, words, extra={"seldom": name})
            await self._write(response.model_copy(update={"trouble": words}))
