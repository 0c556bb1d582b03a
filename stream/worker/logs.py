"""Quiet logs: plain lines, untrusted text escaped, other people's tracebacks and repetitions left out."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stream.alerts import escaped
from stream.settings import Settings

REPEAT_SECONDS = 30.0
"""A library that says the same thing again and again, as in a broker's absence, is heard once in this time."""
GATHER_SECONDS = 1.0
"""What befalls one partition befalls the others within this time, such as a broker's end."""
MAX_LINE = 2000
LIBRARIES = ("aiokafka", "faust", "mode", "aiohttp", "asyncio", "kafka")


def one_line(text: str, limit: int = MAX_LINE) -> str:
    r"""Text as one printable line of at most `limit` characters.

    >>> one_line("a\n\x1b[31mb")
    'a\\n\\x1b[31mb'
    """
    line = escaped(text[:limit])
    return line if len(text) <= limit else line + "…"


class Plain(logging.Formatter):
    """`2026-03-01T12:00:00Z WARNING stream.worker.shards: text`, in UTC; a traceback only of our own failures."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it where there is one."""
        when = time.strftime(self.default_time_format, time.gmtime(record.created))
        line = f"{when}.{int(record.msecs):03d}Z {record.levelname} {record.name}: {one_line(record.getMessage())}"
        if record.exc_info and record.exc_info[0] is not None:
            if is_library(record.name):
                line += f" ({record.exc_info[0].__name__}: {one_line(str(record.exc_info[1]), 200)})"
            else:
                line += "\n" + self.formatException(record.exc_info)
        return line


class Seldom(logging.Filter):
    """Lets a library say the same thing (logger and template) once in a while only.

    And us, what is marked by `extra={"seldom": about}`: once for each thing that it is about.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[object, ...], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let it pass."""
        if not (is_library(record.name) or hasattr(record, "seldom")):
            return True
        key, now = (record.name, str(record.msg)[:80], getattr(record, "seldom", None)), self._clock()
        if now - self._said.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._said) > 1000:
            self._said.clear()
        self._said[key] = now
        return True


def likewise(partition: int, reason: str, noun: str = "partition") -> dict[str, object]:
    """`extra` of a log line on one partition that may befall all of them at once; see `Likewise`."""
    return {"partition": partition, "reason": reason, "noun": noun}


@dataclass(slots=True)
class _Said:
    level: int
    reason: str
    at: float
    others: set[int] = field(default_factory=set)
    told: bool = False


class Likewise(logging.Filter):
    """Lets through the first of several lines that differ by their partition only; `tell` names the others in one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str, str, str], _Said] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let it pass."""
        partition = getattr(record, "partition", None)
        if partition is None:
            return True
        now, reason, noun = self._clock(), record.reason, record.noun  # type: ignore[attr-defined]
        self._said = {key: said for key, said in self._said.items() if now - said.at < REPEAT_SECONDS or not said.told}
        key = (record.name, str(record.msg), noun, reason)
        said = self._said.get(key)
        if said is None:
            self._said[key] = _Said(record.levelno, reason, now)
            return True
        if not said.told:
            said.others.add(partition)
        return False

    def tell(self) -> None:
        """Say whom the same befell; to be called once in a while."""
        now = self._clock()
        for (name, _, noun, _), said in list(self._said.items()):
            if said.told or now - said.at < GATHER_SECONDS:
                continue
            said.told = True
            if said.others:
                others = ", ".join(map(str, sorted(said.others)))
                logging.getLogger(name).log(said.level, "likewise %ss %s: %s", noun, others, said.reason)


LIKEWISE = Likewise()


class NoFencing(logging.Filter):
    """Drops what a fenced producer says by itself: the shard that it belonged to says so in a line of its own."""

    NAMES = frozenset({"ProducerFenced", "InvalidProducerEpoch", "InvalidTxnState", "InvalidProducerIdMapping"})

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let it pass."""
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or kind.__name__ not in self.NAMES


class NoWaiting(logging.Filter):
    """Drops a group coordinator that is not there yet: so it is for a second on a fresh broker, and /readyz says it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let it pass."""
        return "GroupCoordinatorNotAvailableError" not in record.getMessage()


def is_library(name: str) -> bool:
    """Whether a logger belongs to a library."""
    return name.partition(".")[0] in LIBRARIES


def set_up(settings: Settings) -> None:
    """Log to stderr, at the settings' level; libraries at `warning` unless that is `debug`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain())
    handler.addFilter(Seldom())
    handler.addFilter(LIKEWISE)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = getattr(logging, settings.log_level.upper())
    root.setLevel(level)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(level if settings.log_level == "debug" else max(level, logging.WARNING))
    if settings.log_level != "debug":
        logging.getLogger("mode.timers").setLevel(logging.ERROR)  # a timer that is late is the load, not a fault
    logging.getLogger("aiokafka.producer.sender").addFilter(NoFencing())
    if settings.log_level != "debug":
        logging.getLogger("aiokafka.consumer.group_coordinator").addFilter(NoWaiting())
