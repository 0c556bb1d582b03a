"""Everything that `overdraw check` looks at: settings, web, broker, topics, rights, retention."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import SecretStr

from stream.alerts import printable
from stream.core.rules import Rules
from stream.gateways import GATEWAYS, pseudonyms_of
from stream.settings import Settings
from stream.worker.cluster import GROUP, NO_RIGHT, TRANSACTION, Cluster, cluster
from stream.worker.journal import GROUPS, INTAKE
from stream.worker.rights import group_problem, transaction_problem, use_error
from stream.worker.server import is_loopback
from stream.worker.topics import plan, topic_problems

DAY = 86_400.0
OUTAGE_SECONDS = DAY
"""A weekend's outage is longer; a retention below even one day deserves a word."""

Level = Literal["ok", "hint", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check; `remedy` is empty where nothing is to be done."""

    level: Level
    subject: str
    text: str
    remedy: str = ""


def shown_settings(settings: Settings) -> dict[str, Any]:
    """All settings as they may be shown: no token, no password inside an address."""
    values: dict[str, Any] = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = "***"
        elif isinstance(value, str):
            value = re.sub(r"//[^/@\s]*@", "//***@", value)
        values[name] = value
    return values


def settings_findings(settings: Settings) -> list[Finding]:
    """What can be said without a broker."""
    rules = Rules(settings)
    findings = [Finding("ok", "settings", f"valid; what decides the results has the digest {rules.digest}")]
    priors = "the shipped ones" if settings.priors_file is None else printable(settings.priors_file, 300)
    findings.append(Finding("ok", "priors", f"{priors}, digest {rules.priors.digest}"))
    findings += _intake_findings(settings)
    where = f"{settings.web_host}:{settings.web_port}"
    if settings.web_token is not None:
        findings.append(Finding("ok", "web", f"on {where}, with a token"))
    elif is_loopback(settings.web_host):
        findings.append(Finding("ok", "web", f"on {where}, for this machine only"))
    else:
        text = f"{where} can be reached from other machines, and there is no token: the worker will not start"
        findings.append(Finding("problem", "web", text, "set OVERDRAW_WEB_TOKEN, or OVERDRAW_WEB_HOST=127.0.0.1"))
    return findings


def _intake_findings(settings: Settings) -> list[Finding]:
    """What the intake reads, and whether ids are hidden on every way."""
    findings = []
    if settings.intake_topic is not None:
        summary = GATEWAYS[settings.intake_format].summary
        findings.append(Finding("ok", "intake", f"{settings.intake_topic} holds {settings.intake_format}: {summary}"))
    elif settings.intake_format != "overdraw":
        text = (
            f"intake_format is {settings.intake_format}, and there is no intake_topic: nothing is read in that format"
        )
        findings.append(Finding("problem", "intake", text, "name the gateway's topic with OVERDRAW_INTAKE_TOPIC"))
    pseudonyms = pseudonyms_of(settings)
    if pseudonyms is None:
        return findings
    tag = f"by a secret whose pseudonyms begin with {pseudonyms.tag}"
    if settings.intake_topic is not None:
        findings.append(Finding("ok", "pseudonyms", f"the intake hides ids, {tag}"))
    else:
        text = f"ids are hidden {tag}, by feed and replay; {settings.source_topic} is read as it is"
        remedy = (
            "let the gateway's callback hide them with the same secret, or read its topic with OVERDRAW_INTAKE_TOPIC"
        )
        findings.append(Finding("hint", "pseudonyms", text, remedy))
    return findings


async def cluster_findings(settings: Settings) -> list[Finding]:
    """What the broker says, and what is wrong with its topics and our rights; raises BrokerUnreachable."""
    async with cluster(settings) as kafka:
        findings = await _broker_findings(kafka, settings)
        problems = await topic_problems(kafka, settings)
        findings += [Finding("problem", problem.subject, problem.text, problem.remedy) for problem in problems]
        wrong = {problem.subject for problem in problems}
        for topic in plan(settings):
            if topic.name not in wrong:
                text = (
                    "all partitions have a leader"
                    if topic.any_count
                    else f"{topic.partitions} partition{'s, all' if topic.partitions > 1 else ','} with a leader"
                )
                findings.append(Finding("ok", topic.name, text))
        if settings.source_topic not in {problem.subject for problem in problems if problem.code == "missing_topic"}:
            findings += await _retention_findings(kafka, settings)
        return findings


async def _broker_findings(kafka: Cluster, settings: Settings) -> list[Finding]:
    count, release = await kafka.brokers(), await kafka.release()
    brokers = "1 broker" if count == 1 else f"{count} brokers"
    findings = [Finding("ok", "broker", f"Kafka {release or 'of unknown release'} at {settings.broker}, {brokers}")]
    findings += _connection_findings(settings)
    if release is None:
        text = "it does not tell its release: it is older than 3.3 or runs with ZooKeeper"
        findings.append(Finding("hint", "broker", text, "Overdraw is tested with Kafka 3.9 and 4.1"))
    if settings.replication == 1 and count >= 3:
        text = f"topics that we create would have one copy on {brokers}"
        findings.append(Finding("hint", "replication", text, "set OVERDRAW_REPLICATION=3 before creating them"))
    names = [
        (GROUP, "consumer group", settings.app_id),
        (TRANSACTION, "transactional id", f"{settings.app_id}-0"),
        (TRANSACTION, "transactional id", f"{settings.app_id}-{GROUPS}-0"),
    ]
    if settings.intake_topic is not None:
        names.append((TRANSACTION, "transactional id", f"{settings.app_id}-{INTAKE}-0"))
    for kind, noun, name in names:
        error = await use_error(kafka, kind, settings)
        if error in NO_RIGHT:
            problem = group_problem(settings) if kind == GROUP else transaction_problem(settings)
            findings.append(Finding("problem", problem.subject, problem.text, problem.remedy))
        elif error:
            topic = "offsets.topic" if kind == GROUP else "transaction.state.log"
            remedy = f"check that {topic}.replication.factor is at most the number of brokers, and the broker's log"
            findings.append(Finding("problem", noun, f"{name} has no coordinator (Kafka error {error})", remedy))
        else:
            findings.append(Finding("ok", noun, f"{name} has a coordinator"))
    return findings


def _connection_findings(settings: Settings) -> list[Finding]:
    """How Kafka is spoken to; nothing where it is the default."""
    protocol, whom = settings.kafka_security_protocol, ""
    if protocol == "PLAINTEXT":
        return []
    if settings.kafka_username is not None:
        whom = f" as {printable(settings.kafka_username)}, by {settings.kafka_sasl_mechanism}"
    elif settings.kafka_cert_file is not None:
        whom = f" with the certificate in {settings.kafka_cert_file}"
    if protocol == "SASL_PLAINTEXT":
        shown = "the password and all" if settings.kafka_sasl_mechanism == "PLAIN" else "all"
        text = f"{protocol}{whom}: without TLS {shown} that goes over the wire can be read"
        return [Finding("hint", "connection", text, "set kafka_security_protocol to SASL_SSL")]
    return [Finding("ok", "connection", f"{protocol}{whom}; certificates and host names are checked")]


async def _retention_findings(kafka: Cluster, settings: Settings) -> list[Finding]:
    error, values = (await kafka.topic_settings([settings.source_topic]))[settings.source_topic]
    if error:
        return []  # the missing right is a finding already
    kept = float(values.get("retention.ms", -1)) / 1000
    by_size = int(values.get("retention.bytes", -1))
    needed = 2 * settings.bucket_seconds + settings.allowed_lateness_seconds
    subject = f"{settings.source_topic} retention"
    remedy = "raise retention.ms of the topic (kafka-configs --alter --add-config retention.ms=604800000)"
    if 0 <= kept < needed:
        text = f"{_span(kept)}: open buckets alone reach back {_span(needed)}, and a restart reads them again"
        return [Finding("problem", subject, text, remedy)]
    findings = []
    if 0 <= kept < OUTAGE_SECONDS:
        text = f"{_span(kept)}: a worker that is down for longer loses calls"
        findings.append(Finding("hint", subject, text, remedy))
    else:
        backlog = _span(settings.backlog_seconds)
        text = (
            f"{'unlimited' if kept < 0 else _span(kept)}: a first start reads that far back, and what it finds that is "
            f"older than {backlog} is historical and pages nobody"
        )
        findings.append(Finding("ok", subject, text))
    if by_size >= 0:
        text = f"at most {by_size / 1e9:.1f} GB a partition are kept, however short that is in time"
        findings.append(Finding("hint", subject, text, "make sure that a day of calls fits, or unset retention.bytes"))
    return findings


def _span(seconds: float) -> str:
    """A length of time in its largest fitting unit.

    >>> _span(604800), _span(5400), _span(90)
    ('7 days', '1.5 hours', '90 seconds')
    """
    for unit, size in (("day", DAY), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= 2 * size or seconds == size or (seconds > size and unit == "hour"):
            count = f"{seconds / size:.1f}".removesuffix(".0")
            return f"{count} {unit}{'' if count == '1' else 's'}"
    return f"{seconds:.0f} seconds"
