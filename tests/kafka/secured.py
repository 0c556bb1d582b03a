"""A Kafka with TLS, passwords, client certificates and access rules, and the rights that the page for it lists."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream.broker import EmbeddedKafka, Security
from stream.settings import Settings, load_settings
from stream.worker.rights import missing_rights
from stream.worker.topics import create_topics
from tests.certificates import Authority, Pair
from tests.kafka import rights
from tests.kafka.rights import Rule
from tests.kafka.workers import eventually

PAGE = Path(__file__).parents[2] / "deploy" / "kafka-rights.md"
PASSWORDS = {name: f"{name}-s3cr3t" for name in ("overdraw", "gateway", "reader", "nobody", "stranger")}
OPERATIONS = {
    "Read": rights.READ,
    "Write": rights.WRITE,
    "Describe": rights.DESCRIBE,
    "DescribeConfigs": rights.DESCRIBE_CONFIGS,
}
RESOURCES = {"--topic": rights.TOPIC, "--group": rights.GROUP, "--transactional-id": rights.TRANSACTIONAL_ID}


@dataclass(frozen=True)
class Secured:
    """The broker, and the files of those who speak to it."""

    kafka: EmbeddedKafka
    folder: Path
    ours: Authority
    theirs: Authority
    worker: Pair
    stranger: Pair

    def settings(self, user: str = "overdraw", listener: str = "SASL_SSL", **changes: Any) -> Settings:
        """Settings of somebody who does all right, but for the changes."""
        by_protocol: dict[str, dict[str, Any]] = {
            "SASL_SSL": {
                "kafka_username": user,
                "kafka_password_file": self.folder / user,
                "kafka_ca_file": self.ours.cert,
            },
            "SSL": {
                "kafka_cert_file": self.worker.cert,
                "kafka_key_file": self.worker.key,
                "kafka_ca_file": self.ours.cert,
            },
            "PLAINTEXT": {},
        }
        values = {
            "broker": self.kafka.listeners[listener],
            "kafka_security_protocol": listener,
            **by_protocol[listener],
            "partitions": 2,
            "bucket_seconds": 3600,
            "min_excess_tokens": 1000,
            "flush_seconds": 0.2,
            "session_timeout_seconds": 6,
            "web_port": 0,
            **changes,
        }
        return load_settings(environ={f"OVERDRAW_{name.upper()}": str(value) for name, value in values.items()})

    def grant(self, rules: Sequence[Rule]) -> None:
        rights.add(self.kafka.listeners["PLAINTEXT"], rules)


@contextmanager
def secured_kafka(folder: Path, cache: Path) -> Iterator[Secured]:
    """A broker with the topics of the default settings, and no rules but those that a test makes."""
    ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
    for name, password in PASSWORDS.items():
        (folder / name).write_text(password + "\n")
    security = Security(ours.issue("broker", "127.0.0.1").both, ours.cert, PASSWORDS)
    with EmbeddedKafka(cache_dir=cache, security=security) as kafka:
        made = Secured(kafka, folder, ours, theirs, ours.issue("worker"), theirs.issue("stranger"))
        asyncio.run(create_topics(made.settings(listener="PLAINTEXT")))
        yield made


def rules_of(command: str, principal: str = "") -> list[Rule]:
    """The access rules that a call of kafka-acls adds; `principal`: for somebody else."""
    words = shlex.split(command)
    pattern = rights.PREFIXED if "prefixed" in words else rights.LITERAL
    (kind, name), *others = [(RESOURCES[word], words[at + 1]) for at, word in enumerate(words) if word in RESOURCES]
    assert others == []
    whom = principal or next(word for word in words if word.startswith("User:"))
    operations = [OPERATIONS[words[at + 1]] for at, word in enumerate(words) if word == "--operation"]
    return [Rule(kind, name, operation, pattern=pattern, principal=whom) for operation in operations]


def listed(user: str, principal: str = "") -> list[Rule]:
    """What the page grants to somebody."""
    lines = re.findall(rf"^grant (User:{user} .+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    return [rule for line in lines for rule in rules_of(line, principal)]


def in_force(settings: Settings) -> None:
    """Wait until the broker has read the rules that let a worker be."""
    eventually(lambda: not asyncio.run(missing_rights(settings)), what="no right is missing")
