"""An embedded Kafka that wants to know who is there: TLS, passwords, client certificates and access rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stream.embedded.errors import BrokerError

_LOGIN = "org.apache.kafka.common.security"
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9._-]{1,100}")
"""What needs no quoting in Java's login configuration, nor on Kafka's command line."""


@dataclass(frozen=True, slots=True)
class Security:
    """Who may do what on an embedded Kafka, for tests: access rules are in force, and at first nobody may do anything.

    keystore: PEM file of the broker's private key (PKCS #8) and its certificate, for 127.0.0.1
    truststore: PEM file of the authority whose certificates clients may show
    users: passwords by user, for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512

    It listens at SASL_SSL, at SSL (where a client shows a certificate), and at PLAINTEXT: there it is administered, and
    everybody on the machine may do everything. Raises BrokerError on a user or a password that would need quoting.
    """

    keystore: Path
    truststore: Path
    users: Mapping[str, str]

    def __post_init__(self) -> None:
        for text in (*self.users, *self.users.values()):
            if not _PLAIN_TEXT.fullmatch(text):
                raise BrokerError(
                    "users and passwords of the embedded Kafka may hold letters, digits, '.', '_' and '-'"
                )

    @property
    def properties(self) -> dict[str, str]:
        """Lines of `server.properties`."""
        known = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        return {
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{_LOGIN}.plain.PlainLoginModule required {known};",
            **{
                f"listener.name.sasl_ssl.{mechanism}.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;"
                for mechanism in ("scram-sha-256", "scram-sha-512")
            },
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.truststore),
            "listener.name.ssl.ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
        }

    @property
    def format_arguments(self) -> list[str]:
        """What the storage is formatted with: SCRAM's users live in the cluster's metadata."""
        return [
            argument
            for name, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
