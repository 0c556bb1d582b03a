"""What a worker may do on the cluster: looked at before the start, and again after every refusal."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiokafka import errors

from stream.settings import Settings
from stream.worker.cluster import GROUP, NO_GROUP_RIGHT, NO_TRANSACTION_RIGHT, TRANSACTION, Cluster, cluster
from stream.worker.topics import Problem, grant, topic_problems

PAUSE_SECONDS = 5.0
"""Between two looks whether a right is back: an administrator needs longer, and takeovers would fence in vain."""
STALE_SECONDS = 1.0
"""After a refusal for which no right is missing (any more): each partition's may still be on its way to us."""
REPEAT_SECONDS = 60.0
"""While a right is missing the log says so once in this time, however many partitions wait."""

NO_GROUP = errors.GroupAuthorizationFailedError
DENIALS = (
    errors.TopicAuthorizationFailedError,
    NO_GROUP,
    errors.ClusterAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
)

log = logging.getLogger(__name__)


def is_denial(error: BaseException) -> bool:
    """Whether Kafka refused for want of a right."""
    return isinstance(error, DENIALS)


async def use_error(kafka: Cluster, kind: int, settings: Settings) -> int:
    """0 if our group (kind GROUP) or our transactional ids (TRANSACTION) can be used; else Kafka's error code.

    Looking for a coordinator only takes Describe, so that afterwards what is needed is asked for as well.
    """
    name = settings.app_id if kind == GROUP else f"{settings.app_id}-0"
    error = await kafka.coordinator_error(kind, name)
    if error:
        return error
    denial = await kafka.denial(f"{settings.app_id}-0", settings.app_id)
    return denial if denial == (NO_GROUP_RIGHT if kind == GROUP else NO_TRANSACTION_RIGHT) else 0


def group_problem(settings: Settings) -> Problem:
    """That we may not be of our consumer group."""
    return Problem(
        "no_rights",
        f"consumer group {settings.app_id}",
        "we lack the right Read",
        grant(settings, ["Read"], f"--group {settings.app_id}"),
    )


def transaction_problem(settings: Settings) -> Problem:
    """That we may not write with our transactional ids."""
    prefix = f"{settings.app_id}-"
    return Problem(
        "no_rights",
        f"transactional ids {prefix}*",
        "we lack the right Write",
        grant(settings, ["Write"], f"--transactional-id {prefix} --resource-pattern-type prefixed"),
    )


async def app_problems(kafka: Cluster, settings: Settings) -> list[Problem]:
    """What we may not do with our consumer group and our transactional ids."""
    problems = []
    if await use_error(kafka, GROUP, settings) == NO_GROUP_RIGHT:
        problems.append(group_problem(settings))
    if await use_error(kafka, TRANSACTION, settings) == NO_TRANSACTION_RIGHT:
        problems.append(transaction_problem(settings))
    return problems


async def missing_rights(settings: Settings) -> list[Problem]:
    """Every right that a worker of these settings lacks; raises BrokerUnreachable."""
    async with cluster(settings) as kafka:
        problems = [problem for problem in await topic_problems(kafka, settings) if problem.code == "no_rights"]
        return problems + await app_problems(kafka, settings)


class Refusals:
    """After a refusal for want of a right nothing is tried again until the cluster says that we have it."""

    def __init__(
        self,
        settings: Settings,
        look: Callable[[Settings], Awaitable[list[Problem]]] = missing_rights,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._look = look
        self._clock = clock
        self._sleep = sleep
        self._refused = False
        self._turn = asyncio.Lock()
        self._said: tuple[list[Problem], float] = ([], 0.0)

    def take(self, error: BaseException) -> bool:
        """Take note of a failure; True if it was a refusal."""
        if is_denial(error):
            self._refused = True
        return is_denial(error)

    async def over(self) -> None:
        """Return once nothing is refused: at once if nothing was, else when no right is missing."""
        async with self._turn:  # one asks for all who wait
            waited = False
            while self._refused:
                missing = await self._missing()
                if missing or not waited:
                    await self._sleep(PAUSE_SECONDS if missing else STALE_SECONDS)
                    waited = True
                self._refused = bool(missing)

    async def _missing(self) -> list[Problem]:
        try:
            missing = await self._look(self._settings)
        except (errors.KafkaError, OSError) as error:  # whoever tries again meets the broker's absence, and says so
            log.debug("the rights are not known: %s", error)
            return []
        said, at = self._said
        if missing and (missing != said or self._clock() - at >= REPEAT_SECONDS):
            self._said = (missing, self._clock())
            log.error("%s; this worker waits until then", "; ".join(map(str, missing)))
        return missing
