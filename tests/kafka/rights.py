"""Access rules on a broker with an authorizer: CreateAcls and DeleteAcls (version 1), which aiokafka does not have."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID = 2, 3, 4, 5
ALL, READ, WRITE, CREATE, DESCRIBE, DESCRIBE_CONFIGS, IDEMPOTENT_WRITE = 2, 3, 4, 5, 8, 10, 12
DENY, ALLOW = 2, 3
LITERAL, PREFIXED = 3, 4
THE_CLUSTER = "kafka-cluster"
GUARDED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
"""Properties of a broker on which everything is allowed with a thing until there is a rule for it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Somebody, by default everybody, may (or may not) do one thing with a topic, group or whatever else."""

    kind: int
    name: str
    operation: int
    permission: int = ALLOW
    pattern: int = LITERAL
    principal: str = "User:*"

    def pack(self) -> bytes:
        """As both requests have it."""
        resource = struct.pack(">b", self.kind) + _text(self.name) + struct.pack(">b", self.pattern)
        return resource + _text(self.principal) + _text("*") + struct.pack(">bb", self.operation, self.permission)


def add(bootstrap: str, rules: Sequence[Rule]) -> None:
    """Make rules; they take effect when the broker has read them, some milliseconds later."""
    _ask(bootstrap, 30, rules)


def remove(bootstrap: str, rules: Sequence[Rule]) -> None:
    """Take rules back."""
    _ask(bootstrap, 31, rules)


def deny(bootstrap: str, kind: int, name: str, operation: int) -> None:
    """Everybody may do everything with this, but for one thing."""
    add(bootstrap, [Rule(kind, name, ALL), Rule(kind, name, operation, DENY)])


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def _ask(bootstrap: str, api: int, rules: Sequence[Rule]) -> None:
    body = struct.pack(">hhih", api, 1, 1, -1) + struct.pack(">i", len(rules)) + b"".join(r.pack() for r in rules)
    host, _, port = bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        answer = connection.makefile("rb")
        (size,) = struct.unpack(">i", answer.read(4))
        _, _, _, error = struct.unpack(">iiih", answer.read(size)[:14])
    assert error == 0
