"""How every Kafka client of ours connects: where Kafka is, and the protocol, the password and the certificates."""

from __future__ import annotations

import logging
import os
import ssl
from typing import Any

from stream.settings import Settings, SettingsError

MAX_SECRET_BYTES = 64 << 10
"""A password has some dozens of bytes: a larger file is another one."""
MAX_PEM_BYTES = 4 << 20
"""More than all authorities of a system."""


def client_options(settings: Settings) -> dict[str, Any]:
    """Arguments for any aiokafka client.

    Files are read at each call: a client that is made anew has the password and the certificates of today. Raises
    SettingsError on a file that cannot be used.
    """
    protocol = settings.kafka_security_protocol
    options: dict[str, Any] = {"bootstrap_servers": settings.broker, "security_protocol": protocol}
    if protocol.endswith("SSL"):
        options["ssl_context"] = tls_context(settings)
    if protocol.startswith("SASL"):
        # at level debug aiokafka logs every request, and that is the one with the password in it
        logging.getLogger("aiokafka.conn").addFilter(_NO_PASSWORDS)
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_username
        options["sasl_plain_password"] = _secret(settings, "kafka_password")
    return options


def faust_options(settings: Settings) -> dict[str, Any]:
    """The same for a Faust app, which reads files only when it is made. Raises SettingsError."""
    import faust

    options = client_options(settings)
    context = options.get("ssl_context")
    found: dict[str, Any] = {"broker": ";".join(f"kafka://{server}" for server in settings.broker.split(","))}
    if "sasl_mechanism" in options:
        found["broker_credentials"] = faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    elif context is not None:
        found["broker_credentials"] = faust.SSLCredentials(context)
    return found


def without_security(settings: Settings) -> Settings:
    """The same settings for an embedded Kafka of our own, which listens on loopback and asks for nothing."""
    plain = {name: None for name in Settings.model_fields if name.startswith("kafka_")}
    kept = {"kafka_security_protocol": "PLAINTEXT", "kafka_sasl_mechanism": settings.kafka_sasl_mechanism}
    return settings.model_copy(update={**plain, **kept})


def tls_context(settings: Settings) -> ssl.SSLContext:
    """What is trusted, and who we are: certificates and host names are always checked. Raises SettingsError."""
    if settings.kafka_ca_file is not None:
        _content(settings, "kafka_ca_file", MAX_PEM_BYTES)
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca_file)
    except ssl.SSLError as error:
        raise SettingsError(
            f"kafka_ca_file: {settings.kafka_ca_file} holds no certificate in PEM form: name the file of the "
            "authority's certificate, which begins with -----BEGIN CERTIFICATE-----"
        ) from error
    if settings.kafka_cert_file is not None:
        _load_certificate(context, settings, settings.kafka_cert_file)
    return context


def _load_certificate(context: ssl.SSLContext, settings: Settings, cert_file: str) -> None:
    for name in ("kafka_cert_file", "kafka_key_file"):
        if getattr(settings, name) is not None:
            _content(settings, name, MAX_PEM_BYTES)  # OpenSSL does not say which file it cannot read
    asked = False

    def password() -> str:
        # without this OpenSSL would ask on the terminal
        nonlocal asked
        asked = True
        return _secret(settings, "kafka_key_password") or ""

    key = settings.kafka_key_file or cert_file
    try:
        context.load_cert_chain(cert_file, settings.kafka_key_file, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            what = f"kafka_key_file: the key in {key} is not that of the certificate in {cert_file}: name the pair"
        elif asked:
            what = (
                f"the private key in {key} is encrypted, and its password is wrong or missing: set "
                "OVERDRAW_KAFKA_KEY_PASSWORD or kafka_key_password_file"
            )
        else:
            what = (
                f"kafka_cert_file: {cert_file} and {key} hold no certificate with its private key in PEM form: name "
                "files with -----BEGIN CERTIFICATE----- and -----BEGIN PRIVATE KEY-----"
            )
        raise SettingsError(what) from error


def _secret(settings: Settings, name: str) -> str | None:
    """A secret as it is set, or as its file holds it now; None without either."""
    value = getattr(settings, name)
    if value is not None:
        return str(value.get_secret_value())
    if getattr(settings, f"{name}_file") is None:
        return None
    path = getattr(settings, f"{name}_file")
    try:
        secret = _content(settings, f"{name}_file", MAX_SECRET_BYTES).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:  # without the error itself, which holds the content
        raise SettingsError(f"{name}_file: {path} is not UTF-8: it is no password") from None
    if not secret:
        raise SettingsError(f"{name}_file: {path} is empty: write the password into it")
    return secret


def _content(settings: Settings, name: str, most: int) -> bytes:
    path = getattr(settings, name)
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        remedy = f"make it readable for user {os.getuid()}, or set {name} to another file"
        raise SettingsError(f"{name}: cannot read {path} ({error.strerror}): {remedy}") from error
    if len(content) > most:
        raise SettingsError(f"{name}: {path} has more than {most >> 10} kB: it is another file")
    return content


class _NoPasswords(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not any(type(part).__name__.startswith("Sasl") for part in record.args or ())


_NO_PASSWORDS = _NoPasswords()
