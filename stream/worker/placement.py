"""Whether the records of a topic lie where their keys belong: a look at its end, by `overdraw check --live`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from stream.alerts import printable
from stream.gateways import overdraw, parser_of
from stream.gateways.adapter import Parse
from stream.gateways.errors import InputError
from stream.gateways.recognise import recognise
from stream.partition import key_bytes, partition_of
from stream.security import client_options
from stream.settings import Settings
from stream.worker.cluster import BrokerUnreachable
from stream.worker.inspection import Finding
from stream.worker.sample import Sample

TAIL_RECORDS = 20_000
"""Records of a topic, shared among its partitions, that are read from its end: some seconds of work."""
TAIL_SECONDS = 30.0
"""For reading them; a topic that is slower than this is judged by what came."""
MAX_KEYS = 10_000
"""Misplaced keys that are remembered; further ones are counted by their records only."""
SHOWN_KEYS = 3
SHOWN_REASONS = 3
FOREVER = 4e9
"""Any time is in the past of this one: clocks are not what is looked at here."""

NOT_KEYED = (
    "key the topic by key_id with Kafka's default (murmur2) partitioner, or have the workers do it: intake_topic"
)
OTHER_PARTITIONER = (
    "the keys are right, the partitioner is not Kafka's default: set partitioner=murmur2_random (librdkafka) or its "
    "like in the gateway, or have the workers do it: intake_topic"
)


class Placement:
    """Counts where records lie; memory is bounded, whatever they hold. `partitions` are those of the topic.

    parse: the parser of the records' format; sample: what else is to look at their calls
    """

    def __init__(self, partitions: int, parse: Parse = overdraw.parse, sample: Sample | None = None) -> None:
        self.records = 0
        self.events = 0
        self.bad = 0
        self.misplaced = 0
        self.keyed = 0
        """Of the misplaced ones: those whose Kafka key is their key_id."""
        self.sample = sample
        self._parse = parse
        self._partitions = partitions
        self._places: dict[str, set[int]] = {}
        self._reasons: Counter[str] = Counter()
        self._example_of: dict[str, str] = {}
        """The first message of each reason."""
        self._format = ""
        """What the records look like, if none of them was a call."""

    def add(self, records: Iterable[Any]) -> None:
        """Look at some Kafka records of one partition, in their order."""
        found = list(records)
        by_offset = {record.offset: record for record in found}
        calls, rejects = self._parse([(record.offset, record.value, FOREVER) for record in found])
        self.records += len(found)
        self.events += len(calls)
        self.bad += len(rejects)
        for reject in rejects:
            self._reasons[reject.reason] += 1
            self._example_of.setdefault(reject.reason, reject.message)
        if not self.events and not self._format:
            self._format = _format_of([record.value for record in found if record.value])
        if self.sample is not None and found:
            self.sample.add(found[0].partition, calls)
        for offset, _, call in calls:
            record, key_id = by_offset[offset], call.key_id
            home = partition_of(key_id, self._partitions)
            if home == record.partition:
                if key_id in self._places:
                    self._places[key_id].add(home)
                continue
            self.misplaced += 1
            self.keyed += record.key == key_bytes(key_id)
            if key_id in self._places or len(self._places) < MAX_KEYS:
                self._places.setdefault(key_id, set()).add(record.partition)

    def finding(self, topic: str) -> Finding:
        """What there is to say of a topic whose records have to lie where their keys belong."""
        subject = f"{topic} keys"
        if not self.events:
            return self._nothing(subject, "overdraw")
        if not self.misplaced:
            return Finding("ok", subject, f"all of {self._looked()} lie where Kafka's default partitioner puts them")
        shown = "; ".join(self._example(key_id) for key_id in list(self._places)[:SHOWN_KEYS])
        several = sum(len(places) > 1 for places in self._places.values())
        more = f", and {several} keys were seen on several" if several else ""
        text = (
            f"{self.misplaced} of {self._looked()} lie on another partition than their key belongs to ({shown}){more}: "
            "they become dead letters (misrouted)"
        )
        remedy = OTHER_PARTITIONER if self.keyed == self.misplaced else NOT_KEYED
        return Finding("problem", subject, text, remedy)

    def intake_finding(self, topic: str, format: str = "overdraw") -> Finding:
        """What there is to say of the intake topic, whose records are of some format; keys may lie anywhere."""
        subject = f"{topic} keys"
        if not self.events:
            return self._nothing(subject, format, intake=True)
        return Finding(
            "ok", subject, f"{self._looked()} at its end; keys may lie on any partition, the intake keys them"
        )

    def _looked(self) -> str:
        return f"{self.events} events" + (f" ({self.bad} more are refused: {self._refused()})" if self.bad else "")

    def _refused(self) -> str:
        shown = self._reasons.most_common(SHOWN_REASONS)
        return ", ".join([f"{count} {reason}" for reason, count in shown] + ["…"] * (len(self._reasons) > len(shown)))

    def _nothing(self, subject: str, format: str, *, intake: bool = False) -> Finding:
        """No call at the topic's end: since there is nothing, or all is refused, as of records of another format."""
        if not self.bad:
            return Finding(
                "hint", subject, "there are no records at its end", "look again while gateways write (--for 60)"
            )
        reason = self._reasons.most_common(1)[0][0]
        why = printable(self._example_of[reason], 200)
        text = f"none of the {self.bad} events at its end can be read ({self._refused()}); the first: {why}"
        if self._format in ("", "csv", format):
            return Finding(
                "problem", subject, text, f"mend what is said of {reason}; each is a dead letter with its reason"
            )
        remedy = (
            f"set intake_format to {self._format}"
            if intake
            else f"name this topic as intake_topic with intake_format={self._format}, and another one as source_topic"
        )
        return Finding("problem", subject, f"{text}. They look like {self._format}", remedy)

    def _example(self, key_id: str) -> str:
        places = ", ".join(map(str, sorted(self._places[key_id])))
        return f"{printable(key_id)} on {places}, home {partition_of(key_id, self._partitions)}"


async def live_findings(settings: Settings, seconds: float = 0.0) -> list[Finding]:
    """Look at the end of the source topic, and of the intake topic if there is one; raises BrokerUnreachable.

    seconds: how long to look at what comes, after what is there
    """
    source = await look(settings, settings.source_topic, seconds)
    findings = (
        [] if source is None else [source.finding(settings.source_topic), *_quality(source, settings.source_topic)]
    )
    if settings.intake_topic is not None:
        try:
            parse = parser_of(settings)
        except InputError as error:
            remedy = "mend the mapping file (intake_mapping_file)"
            return [*findings, Finding("problem", settings.intake_topic, printable(str(error), 300), remedy)]
        intake = await look(settings, settings.intake_topic, 0.0, parse)
        if intake is not None:
            topic = settings.intake_topic
            findings += [intake.intake_finding(topic, settings.intake_format), *_quality(intake, topic)]
    return findings


def _format_of(values: list[bytes]) -> str:
    """The format that some records are of; empty if none is known."""
    try:
        return recognise(values).format
    except InputError:
        return ""


def _quality(placement: Placement, topic: str) -> list[Finding]:
    """What the calls are like, where there are any."""
    sample = placement.sample
    return sample.findings(f"{topic} data") if sample is not None and sample.events else []


async def look(
    settings: Settings,
    topic: str,
    seconds: float,
    parse: Parse = overdraw.parse,
    clock: Callable[[], float] = time.monotonic,
) -> Placement | None:
    """Read the end of a topic, and then what comes; None if there is no such topic (the check has said so)."""
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import KafkaError

    from stream.worker.unpacking import bound_unpacking

    bound_unpacking()
    consumer: Any = AIOKafkaConsumer(
        **client_options(settings), isolation_level="read_committed", enable_auto_commit=False,
        auto_offset_reset="earliest",
    )  # fmt: skip
    try:
        await consumer.start()
        known = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic)
        if not known:
            return None
        partitions = [TopicPartition(topic, partition) for partition in sorted(known)]
        starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        for tp in partitions:
            consumer.seek(tp, max(starts[tp], ends[tp] - max(1, TAIL_RECORDS // len(partitions))))
        placement = Placement(len(partitions), parse, Sample(settings))
        begun = clock()
        while clock() - begun < seconds or (
            clock() - begun < TAIL_SECONDS and any([await consumer.position(tp) < end for tp, end in ends.items()])
        ):
            batches = await consumer.getmany(timeout_ms=200, max_records=5000)
            for batch in batches.values():
                placement.add(batch)
        return placement
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnreachable(
            f"{topic} cannot be read ({type(error).__name__}): check the right Read on it"
        ) from error
    finally:
        await consumer.stop()
