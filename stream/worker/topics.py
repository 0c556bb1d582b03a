"""The topics that the detector needs: how they must be, how to make them, what is wrong with those there are."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from stream.settings import Settings
from stream.worker.cluster import POLL_SECONDS, BrokerUnreachable, Cluster, TopicFacts, cluster

__all__ = ["BrokerUnreachable", "Problem", "Topic", "TopicError", "check_topics", "create_topics", "plan"]

READY_SECONDS = 15.0
"""A new topic's partitions have leaders within milliseconds; on a busy cluster it takes longer."""
MISSING, EXISTS, NO_TOPIC_RIGHT, NO_CLUSTER_RIGHT, BAD_REPLICATION = 3, 36, 29, 31, 38

STATE_SETTINGS = {
    "cleanup.policy": "compact",
    # small segments, compacted soon: recovery reads the whole topic, and only closed segments are compacted
    "segment.bytes": str(32 << 20),
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.3",
    "max.compaction.lag.ms": "3600000",
}
"""The state topic's configuration."""
CONTROL_SETTINGS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""The control topic's: what was said holds until it is taken back, and is the audit trail. All other topics take the
cluster's defaults."""


class TopicError(RuntimeError):
    """A topic cannot be made; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it must be; `rights` are what a worker needs.

    `partitions` are what it must have, or, with `any_count`, only what it is made with; `kept`: for ever.
    """

    name: str
    setting: str
    partitions: int
    compacted: bool
    rights: frozenset[str]
    any_count: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: a code, where, what, and how to mend it."""

    code: str
    subject: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}: {self.remedy}"


def plan(settings: Settings, *, rebuild: bool = False) -> list[Topic]:
    """The topics of these settings: seven, and the intake's if there is one; a `rebuild` has to read the alerts, too.

    >>> from stream.settings import load_settings
    >>> [(topic.name, topic.partitions) for topic in plan(load_settings(environ={}))][:2]
    [('api-calls', 8), ('overdraw-alerts', 8)]
    """
    read, write = frozenset({"Describe", "Read"}), frozenset({"Describe", "Write"})
    count, intake = settings.partitions, settings.intake_topic
    # the intake topic comes last: the source is what most of what is said of these is about
    unkeyed = [] if intake is None else [Topic(intake, "intake_topic", count, False, read, any_count=True)]
    return [
        Topic(settings.source_topic, "source_topic", count, False, read if intake is None else read | write),
        Topic(settings.alert_topic, "alert_topic", count, False, read | write if rebuild else write),
        Topic(settings.dead_letter_topic, "dead_letter_topic", count, False, write),
        Topic(settings.state_topic, "state_topic", count, True, read | write),
        # one partition: what operators say has an order
        Topic(settings.control_topic, "control_topic", 1, False, read, kept=True),
        # one partition each: a campaign is seen only where all that shards tell of their keys comes together
        Topic(settings.group_evidence_topic, "group_evidence_topic", 1, False, read | write),
        Topic(settings.group_state_topic, "group_state_topic", 1, True, read | write),
        *unkeyed,
    ]


def response_plan(settings: Settings) -> list[Topic]:
    """The topics of the responder, where there is a response file; `rights` are what that needs."""
    if settings.response_file is None:
        return []
    rights = frozenset({"Describe", "Read", "Write"})
    return [
        Topic(settings.response_topic, "response_topic", 1, True, rights),
        Topic(settings.deny_list_topic, "deny_list_topic", 1, True, rights - {"Read"}, any_count=True),
    ]


def responder_needs(settings: Settings, *, applies: bool) -> list[Topic]:
    """What a responder looks at before it starts; `applies`: it does not only rehearse, and tells of what it does."""
    rights = frozenset({"Describe", "Read", *(["Write"] if applies else [])})
    control = [replace(topic, rights=rights) for topic in plan(settings) if topic.setting == "control_topic"]
    return response_plan(settings) + control


def every_topic(settings: Settings) -> list[Topic]:
    """All topics that these settings ask for, the worker's first."""
    return plan(settings) + response_plan(settings)


async def create_topics(settings: Settings) -> list[str]:
    """Make the topics that are missing and wait until they can be used; returns the names of those it made.

    Topics that are there stay as they are: `check_topics` judges them. Two at once do no harm. Raises
    BrokerUnreachable, or TopicError when the cluster refuses.
    """
    async with cluster(settings) as kafka:
        wanted = every_topic(settings)
        facts = await kafka.topics([topic.name for topic in wanted])
        made = []
        for topic in wanted:
            if facts[topic.name].error == MISSING:
                configuration = STATE_SETTINGS if topic.compacted else CONTROL_SETTINGS if topic.kept else {}
                error, words = await kafka.create(topic.name, topic.partitions, settings.replication, configuration)
                if error not in (0, EXISTS):
                    raise TopicError(_refusal(topic, error, words, settings))
                if not error:
                    made.append(topic.name)
        await _wait_until_usable(kafka, [topic.name for topic in wanted])
        return made


async def check_topics(
    settings: Settings, *, rebuild: bool = False, wanted: Sequence[Topic] | None = None
) -> list[Problem]:
    """Everything that is wrong with the topics of these settings; empty when a worker (with --rebuild?) can start.

    wanted: look at these topics instead. Raises BrokerUnreachable.
    """
    async with cluster(settings) as kafka:
        return await topic_problems(kafka, settings, rebuild=rebuild, wanted=wanted)


async def topic_problems(
    kafka: Cluster, settings: Settings, *, rebuild: bool = False, wanted: Sequence[Topic] | None = None
) -> list[Problem]:
    """As `check_topics`, over a connection that is open already; `wanted`: of these topics alone."""
    wanted = plan(settings, rebuild=rebuild) if wanted is None else wanted
    facts = await kafka.topics([topic.name for topic in wanted])
    problems = [problem for topic in wanted for problem in _metadata_problems(topic, facts[topic.name], settings)]
    there = [topic for topic in wanted if facts[topic.name].error == 0]
    configurations = await kafka.topic_settings([topic.name for topic in there]) if there else {}
    for topic in there:
        error, values = configurations[topic.name]
        problems += _configuration_problems(topic, error, values, settings)
    return problems


def _metadata_problems(topic: Topic, facts: TopicFacts, settings: Settings) -> list[Problem]:
    if facts.error == MISSING:
        return [Problem("missing_topic", topic.name, "there is no such topic", "run `overdraw topics create`")]
    if facts.error == NO_TOPIC_RIGHT:
        return [_no_right(topic, topic.rights, settings)]  # nothing of it is told, and Describe alone would not do
    if facts.error:
        remedy = "look at the broker's log, then check again"
        return [Problem("topic_error", topic.name, f"Kafka answers with error {facts.error}", remedy)]
    problems = []
    if (topic.kept or topic.setting == "response_topic") and facts.partitions != topic.partitions:
        why = "what operators say would have no order" if topic.kept else "only one responder may be at work"
        problems.append(
            Problem(
                "partition_count",
                topic.name,
                f"it has {facts.partitions} partitions: {why}",
                f"name a new topic with OVERDRAW_{topic.setting.upper()} and run `overdraw topics create`: it gets one",
            )
        )
    elif topic.setting.startswith("group_") and facts.partitions != topic.partitions:
        problems.append(
            Problem(
                "partition_count",
                topic.name,
                f"it has {facts.partitions} partitions, and has to have 1",
                f"name a new topic with OVERDRAW_{topic.setting.upper()}: `overdraw topics create` makes it",
            )
        )
    elif facts.partitions != topic.partitions and not topic.any_count:
        problems.append(
            Problem(
                "partition_count",
                topic.name,
                f"it has {facts.partitions} partitions, the setting `partitions` says {topic.partitions}",
                f"set OVERDRAW_PARTITIONS={facts.partitions}, or name a new topic with "
                f"OVERDRAW_{topic.setting.upper()}: partitions are fixed for life{_more_partitions(topic)}",
            )
        )
    if facts.leaderless:
        named = ", ".join(map(str, facts.leaderless[:5]))
        problems.append(
            Problem("no_leader", topic.name, f"partition {named} has no leader", "bring the missing brokers back")
        )
    if facts.rights is not None and not topic.rights <= facts.rights:
        problems.append(_no_right(topic, topic.rights - facts.rights, settings))
    return problems


def _more_partitions(topic: Topic) -> str:
    if topic.setting != "source_topic":
        return ""
    return " (to have more, set the old source topic as intake_topic of a new one: other counts move keys)"


def _configuration_problems(
    topic: Topic, error: int, values: Mapping[str, str | None], settings: Settings
) -> list[Problem]:
    if error:
        return [_no_right(topic, {"DescribeConfigs"}, settings)]
    policy = values.get("cleanup.policy") or ""
    if topic.kept and "compact" not in policy and int(values.get("retention.ms") or -1) >= 0:
        return [
            Problem(
                "expires",
                topic.name,
                f"its retention.ms is {values['retention.ms']}, so that what operators have said is forgotten",
                "set it to -1 (kafka-configs --alter --add-config retention.ms=-1)",
            )
        ]
    if topic.compacted and policy != "compact":
        return [
            Problem(
                "not_compacted",
                topic.name,
                f"its cleanup.policy is {policy!r}, so that the state of a quiet key would be deleted",
                "set it to `compact` (kafka-configs --alter --add-config cleanup.policy=compact)",
            )
        ]
    if not topic.compacted and "compact" in policy:
        return [
            Problem(
                "compacted",
                topic.name,
                f"its cleanup.policy is {policy!r}, so that a key's older records vanish",
                "set it to `delete` (kafka-configs --alter --add-config cleanup.policy=delete)",
            )
        ]
    return []


def _no_right(topic: Topic, missing: set[str] | frozenset[str], settings: Settings) -> Problem:
    named = sorted(missing)
    remedy = grant(settings, named, f"--topic {topic.name}")
    return Problem("no_rights", topic.name, f"we lack the right {', '.join(named)}", remedy)


def grant(settings: Settings, operations: Sequence[str], resource: str) -> str:
    """How an administrator grants these operations on a resource of kafka-acls to us.

    >>> from stream.settings import load_settings
    >>> grant(load_settings(environ={}), ["Read"], "--group overdraw")
    'grant it (kafka-acls --add --operation Read --group overdraw)'
    """
    # who shows a certificate is whom the broker's rules take its subject for
    user = settings.kafka_username
    whom = [] if user is None else [f"--allow-principal {shlex.quote(f'User:{user}')}"]
    options = [f"--operation {name}" for name in operations]
    return f"grant it ({' '.join(['kafka-acls --add', *whom, *options, resource])})"


def _refusal(topic: Topic, error: int, words: str, settings: Settings) -> str:
    if error in (NO_TOPIC_RIGHT, NO_CLUSTER_RIGHT):
        return (
            f"{topic.name}: we lack the right Create: grant it, or have an administrator make the topic with "
            f"{topic.partitions} partitions{' and cleanup.policy=compact' if topic.compacted else ''}"
        )
    if error == BAD_REPLICATION:
        return (
            f"{topic.name}: the cluster has too few brokers for replication={settings.replication}: "
            "set OVERDRAW_REPLICATION to at most their number"
        )
    return f"{topic.name}: Kafka refuses to make it ({words}): change the settings or the cluster's policy"


async def _wait_until_usable(kafka: Cluster, names: list[str]) -> None:
    deadline = monotonic() + READY_SECONDS
    while True:
        facts = await kafka.topics(names)
        waiting = [name for name in names if facts[name].error == MISSING or facts[name].leaderless]
        if not waiting:
            return
        if monotonic() > deadline:
            raise TopicError(
                f"{', '.join(waiting)}: made, and still without leaders after {READY_SECONDS:.0f} s: look at the "
                "broker's log, then run `overdraw topics check`"
            )
        await asyncio.sleep(POLL_SECONDS)
