"""Why Kafka does not take us: a connection for the sake of the answer, where aiokafka only says that there is none."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from stream.alerts import printable
from stream.security import client_options
from stream.settings import Settings

ANSWER_SECONDS = 5.0
CLOSE_SECONDS = 1.0
MOST_SERVERS = 3
"""Brokers of one cluster are configured alike."""
MOST_CHARACTERS = 200

EXPIRED, NOT_YET_VALID = 10, 9
STRANGERS = frozenset({2, 18, 19, 20, 21})
MISNAMED = frozenset({62, 64})
"""OpenSSL's codes (X509_V_ERR_…) of a certificate that is out of date, of one whose issuer is not known here, and of
one for another host name or address."""

Server = tuple[str, int]


async def refusal(settings: Settings, servers: Sequence[Server] = ()) -> str | None:
    """Why the first of these brokers that answers at all does not take us, and what to do; None if none answers.

    servers: host and port; none: those of the setting `broker`

    Also None if we are taken, or if it is not a matter of protocol, password or certificates. It may take some seconds
    for each of `MOST_SERVERS`. Raises SettingsError on a file that cannot be used.
    """
    options = client_options(settings)
    bootstrap = [server.rpartition(":") for server in options.pop("bootstrap_servers").split(",")]
    for host, port in (servers or [(host.strip("[]"), int(port)) for host, _, port in bootstrap])[:MOST_SERVERS]:
        said = await _refusal_of((host, port), settings, options)
        if said is not None:
            return f"Kafka at {printable(host)}:{port} {said}"
    return None


async def _refusal_of(server: Server, settings: Settings, options: dict[str, Any]) -> str | None:
    error = await _attempt(server, options)
    if error is None:
        return None
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _about_certificate(cause, settings)
        if isinstance(cause, ssl.SSLError) and _is_alert(cause):
            return _about_ours(cause, settings)
        # ValueError: it does not know the password either, by its SCRAM signature
        if settings.kafka_username is not None and isinstance(cause, errors.SaslAuthenticationFailed | ValueError):
            return (
                f"does not accept user {printable(settings.kafka_username or '')} with this password "
                f"({settings.kafka_sasl_mechanism}): look at kafka_username, kafka_password_file (or "
                "OVERDRAW_KAFKA_PASSWORD), and whether the user is made for this mechanism"
            )
    if any(isinstance(cause, ConnectionRefusedError | TimeoutError) for cause in causes):
        return None
    return await _about_protocol(server, settings, options)


async def _attempt(server: Server, options: dict[str, Any]) -> Exception | None:
    """Connect and ask a question; what went wrong, or None."""
    connection = _connection(server, options)
    try:
        async with asyncio.timeout(2 * ANSWER_SECONDS):
            await connection.connect()
            await connection.send(MetadataRequest([]))
    except Exception as error:  # a foreign server may answer anything
        return error
    finally:
        await _close(connection)
    return None


def _connection(server: Server, options: dict[str, Any]) -> Any:
    milliseconds = int(ANSWER_SECONDS * 1000)
    return AIOKafkaConnection(*server, client_id="overdraw-look", request_timeout_ms=milliseconds, **options)


async def _close(connection: Any) -> None:
    """Hang up, and wait a moment until the transport is closed: nothing of a look is left behind."""
    connection.close()
    if connection._protocol is not None:
        await asyncio.wait([connection._closed_fut], timeout=CLOSE_SECONDS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _about_certificate(error: ssl.SSLCertVerificationError, settings: Settings) -> str:
    """Of the broker's certificate, which we do not accept."""
    why = printable(error.verify_message, MOST_CHARACTERS).replace(": ", " - ").rstrip(".")
    if error.verify_code in MISNAMED:
        return (
            f"has a certificate for another name ({why}): write the broker as its certificate names it, or have one "
            "issued with this name (subjectAltName)"
        )
    if error.verify_code in (EXPIRED, NOT_YET_VALID):
        return f"has a certificate that is out of date ({why}): have it renewed, or set this machine's clock"
    if error.verify_code in STRANGERS:
        known = "of the system" if settings.kafka_ca_file is None else f"in {settings.kafka_ca_file}"
        return (
            f"has a certificate of an authority that is none of those {known} ({why}): name its file with kafka_ca_file"
        )
    return f"has a certificate that is not valid ({why}): have another one issued, or look at kafka_ca_file"


def _is_alert(error: ssl.SSLError) -> bool:
    """Whether the other side has ended the handshake, by an alert."""
    return "ALERT" in (error.reason or "")


def _about_ours(error: ssl.SSLError | None, settings: Settings) -> str:
    """Of our certificate, which the broker does not accept, or misses."""
    why = "it ends the connection" if error is None else (error.reason or "").lower().replace("_", " ")
    if settings.kafka_cert_file is None:
        return f"asks for a certificate of ours ({why}): name it with kafka_cert_file and kafka_key_file"
    return (
        f"does not accept our certificate in {settings.kafka_cert_file} ({why}): name one that an authority of the "
        "broker's truststore has issued, and that is not out of date"
    )


async def _about_protocol(server: Server, settings: Settings, options: dict[str, Any]) -> str | None:
    """Which protocol the port speaks, if it is another one than ours."""
    protocol = settings.kafka_security_protocol
    wants_sasl, wants_tls = protocol.startswith("SASL"), protocol.endswith("SSL")
    speaks_tls = await _speaks_tls(server)
    plain = {"security_protocol": "PLAINTEXT"}
    if wants_tls and not speaks_tls:
        if await _mechanisms(server, plain, settings) is None:
            return None
        readable = protocol.replace("SSL", "PLAINTEXT")
        return (
            f"speaks no TLS on this port, and kafka_security_protocol is {protocol}: name its port for TLS with "
            f"OVERDRAW_BROKER, or, where anybody may read what goes over the wire, set it to {readable}"
        )
    if speaks_tls and not wants_tls:
        return (
            f"speaks TLS on this port, and kafka_security_protocol is {protocol}: set it to "
            f"{'SASL_SSL' if wants_sasl else 'SSL, or to SASL_SSL where it asks for a password'}"
        )
    bare = {"security_protocol": "SSL", "ssl_context": options["ssl_context"]} if wants_tls else plain
    mechanisms = await _mechanisms(server, bare, settings)
    if wants_tls and mechanisms is None:
        return _about_ours(None, settings)
    if wants_sasl and mechanisms == []:
        return (
            f"asks for no password on this port, and kafka_security_protocol is {protocol}: set it to "
            f"{protocol.removeprefix('SASL_')}"
        )
    if not mechanisms:
        return None
    listed = ", ".join(printable(mechanism, 40) for mechanism in mechanisms[:8])
    if not wants_sasl:
        return (
            f"asks for a password ({listed}), and kafka_security_protocol is {protocol}: set it to SASL_{protocol}, "
            "kafka_sasl_mechanism to one of these, kafka_username and kafka_password_file"
        )
    if settings.kafka_sasl_mechanism not in mechanisms:
        return (
            f"takes {listed}, and kafka_sasl_mechanism is {settings.kafka_sasl_mechanism}: set it to one of these, or "
            "have this one enabled"
        )
    return None


async def _speaks_tls(server: Server) -> bool:
    """Whether the port answers a TLS handshake, whatever its certificate; nothing else is sent."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(*server, ssl=anybody)
    except ssl.SSLError as error:
        return _is_alert(error)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError, TimeoutError):  # the broker may have ended it first, or say no farewell
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()
    return True


async def _mechanisms(server: Server, options: dict[str, Any], settings: Settings) -> list[str] | None:
    """The SASL mechanisms of a port: none where it wants no SASL; None if it does not answer as Kafka does."""
    connection = _connection(server, options)
    try:
        async with asyncio.timeout(2 * ANSWER_SECONDS):
            await connection.connect()
            answer = await connection.send(SaslHandShakeRequest(settings.kafka_sasl_mechanism))
    except Exception:  # a foreign server may answer anything: what is told is what was found out
        return None
    finally:
        await _close(connection)
    return list(answer.enabled_mechanisms)
