"""What Kafka clients are told of protocol, password and certificates, and what is said of files that are no good."""

from __future__ import annotations

import logging
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.protocol.admin import SaslAuthenticateRequest
from click.testing import CliRunner

import stream
from stream.__main__ import cli
from stream.gateways.errors import InputError
from stream.security import MAX_SECRET_BYTES, client_options, faust_options, without_security
from stream.settings import Settings, SettingsError, load_settings
from stream.worker.app import build_app
from tests.certificates import Authority

PASSWORD = "s3cr3t-of-somebody"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Authority:
    return Authority(folder, "ours")


def made(**values: Any) -> Settings:
    environ = {f"OVERDRAW_{name.upper()}": str(value) for name, value in values.items()}
    return load_settings(environ={"OVERDRAW_WEB_PORT": "0", **environ})


def sasl(**values: Any) -> Settings:
    return made(**{"kafka_security_protocol": "SASL_SSL", "kafka_username": "overdraw", **values})


def test_without_a_word_kafka_is_spoken_to_in_the_clear() -> None:
    assert client_options(made(broker="a:1,b:2")) == {"bootstrap_servers": "a:1,b:2", "security_protocol": "PLAINTEXT"}
    assert faust_options(made(broker="a:1,b:2")) == {"broker": "kafka://a:1;kafka://b:2"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_every_client_gets_user_password_and_authorities(ours: Authority, mechanism: str) -> None:
    settings = sasl(kafka_sasl_mechanism=mechanism.lower(), kafka_password=PASSWORD, kafka_ca_file=ours.cert)
    options = client_options(settings)
    context = options.pop("ssl_context")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert [dict(part[0] for part in ca["subject"]) for ca in context.get_ca_certs()] == [{"commonName": "ours"}]
    assert options == {
        "bootstrap_servers": settings.broker,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "overdraw",
        "sasl_plain_password": PASSWORD,
    }
    credentials = build_app(settings).conf.broker_credentials
    assert (credentials.protocol.value, credentials.mechanism.value) == ("SASL_SSL", mechanism)
    assert (credentials.username, credentials.password) == ("overdraw", PASSWORD)
    assert credentials.ssl_context.verify_mode == ssl.CERT_REQUIRED


def test_without_a_file_the_authorities_of_the_system_are_trusted() -> None:
    context = client_options(made(kafka_security_protocol="ssl"))["ssl_context"]
    assert context.get_ca_certs() == ssl.create_default_context().get_ca_certs()
    assert build_app(made(kafka_security_protocol="ssl")).conf.broker_credentials.protocol.value == "SSL"


def test_a_password_file_is_read_for_each_client_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = sasl(kafka_password_file=file)
    for password in (PASSWORD, " of blanks and ümlauts "):
        file.write_text(password + "\n", "utf-8")
        assert client_options(settings)["sasl_plain_password"] == password


def test_a_certificate_of_ours_is_taken_with_its_key_in_one_file_or_in_two(ours: Authority, tmp_path: Path) -> None:
    pair = ours.issue("worker", "worker.example")
    locked = ours.issue("locked", password=PASSWORD)
    (tmp_path / "password").write_text(PASSWORD)
    files = [
        {"kafka_cert_file": pair.cert, "kafka_key_file": pair.key},
        {"kafka_cert_file": pair.both},
        {"kafka_cert_file": locked.cert, "kafka_key_file": locked.key, "kafka_key_password": PASSWORD},
        {"kafka_cert_file": locked.both, "kafka_key_password_file": tmp_path / "password"},
    ]
    for named in files:
        assert "ssl_context" in client_options(made(kafka_security_protocol="SSL", **named)), named


def test_a_file_that_cannot_be_used_is_named_with_what_to_do(ours: Authority, folder: Path, tmp_path: Path) -> None:
    pair, other = ours.issue("worker"), ours.issue("other")
    locked = ours.issue("locked", password=PASSWORD)
    absent, empty, long, binary = (tmp_path / name for name in ("absent", "empty", "long", "binary"))
    empty.write_text("\n")
    long.write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    binary.write_bytes(b"\xff\xfe" + PASSWORD.encode())
    tls = {"kafka_security_protocol": "SSL"}
    user = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_username": "overdraw"}
    rows: list[tuple[dict[str, Any], list[str]]] = [
        ({**user, "kafka_password_file": absent}, ["kafka_password_file: cannot read", "absent", "No such file"]),
        ({**user, "kafka_password_file": tmp_path}, ["kafka_password_file: cannot read", "Is a directory"]),
        ({**user, "kafka_password_file": empty}, ["kafka_password_file", "is empty: write the password"]),
        ({**user, "kafka_password_file": long}, ["kafka_password_file", "more than 64 kB: it is another file"]),
        ({**user, "kafka_password_file": binary}, ["kafka_password_file", "not UTF-8"]),
        ({**tls, "kafka_ca_file": absent}, ["kafka_ca_file: cannot read", "absent", "make it readable"]),
        ({**tls, "kafka_ca_file": empty}, ["kafka_ca_file", "empty holds no certificate", "BEGIN CERTIFICATE"]),
        ({**tls, "kafka_ca_file": pair.key}, ["kafka_ca_file", "worker.key holds no certificate"]),
        ({**tls, "kafka_cert_file": absent}, ["kafka_cert_file: cannot read"]),
        ({**tls, "kafka_cert_file": pair.cert, "kafka_key_file": absent}, ["kafka_key_file: cannot read"]),
        ({**tls, "kafka_cert_file": pair.cert, "kafka_key_file": other.key}, ["not that of the certificate"]),
        ({**tls, "kafka_cert_file": pair.cert}, ["kafka_cert_file", "no certificate with its private key"]),
        ({**tls, "kafka_cert_file": empty, "kafka_key_file": pair.key}, ["kafka_cert_file", "no certificate with"]),
        ({**tls, "kafka_cert_file": locked.both}, ["locked.pem is encrypted", "OVERDRAW_KAFKA_KEY_PASSWORD"]),
        ({**tls, "kafka_cert_file": locked.both, "kafka_key_password": "x"}, ["is encrypted", "wrong or missing"]),
        ({**tls, "kafka_cert_file": locked.both, "kafka_key_password_file": absent}, ["kafka_key_password_file"]),
    ]
    for values, words in rows:
        with pytest.raises(SettingsError) as caught:
            client_options(made(**values))
        said = str(caught.value)
        assert all(word in said for word in words), said
        assert "\n" not in said
        assert PASSWORD not in said


def test_the_line_that_shows_the_password_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    client_options(sasl(kafka_password=PASSWORD))
    with caplog.at_level(logging.DEBUG, "aiokafka.conn"):
        request = SaslAuthenticateRequest(PASSWORD.encode()).prepare({36: (0, 1)})
        logging.getLogger("aiokafka.conn").debug("Request to %s:%d %d: %s", "kafka", 9092, 3, request)
        logging.getLogger("aiokafka.conn").debug("Authenticated as %s via %s", "overdraw", "PLAIN")
    assert [record.getMessage() for record in caplog.records] == ["Authenticated as overdraw via PLAIN"]


def test_an_embedded_kafka_of_our_own_is_asked_for_nothing(ours: Authority) -> None:
    settings = sasl(kafka_password=PASSWORD, kafka_ca_file=ours.cert, kafka_sasl_mechanism="PLAIN", partitions=3)
    plain = without_security(settings)
    assert client_options(plain) == client_options(made())
    assert plain.partitions == 3
    assert Settings.model_validate(plain.model_dump()) == plain


@pytest.mark.parametrize(("words", "made"), [(["demo"], "stream.lab.demo.Demo"), (["bench"], "stream.lab.bench.Bench")])
def test_a_command_that_brings_its_own_kafka_speaks_to_it_in_the_clear(
    words: list[str], made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []

    def look(settings: Settings, *_: Any, **__: Any) -> None:
        seen.append(settings)
        raise InputError("that is enough")

    monkeypatch.setattr(made, look)
    environ = {"SECURITY_PROTOCOL": "SASL_SSL", "USERNAME": "overdraw", "PASSWORD": PASSWORD}
    CliRunner().invoke(cli, words, env={f"OVERDRAW_KAFKA_{name}": value for name, value in environ.items()})
    assert [client_options(settings)["security_protocol"] for settings in seen] == ["PLAINTEXT"]


def test_no_client_goes_past_the_one_place_that_knows_how_to_connect() -> None:
    root = Path(stream.__file__).parent
    ours = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] in ("worker", "cli", "litellm")]
    ours.append(root / "lab" / "produce.py")
    clients = [path for path in ours if re.search(r"\bAIOKafka(Consumer|Producer|AdminClient)\(", path.read_text())]
    assert len(clients) >= 9
    for path in clients:
        made = re.findall(r"\bAIOKafka(?:Consumer|Producer|AdminClient)\(\s*([^,)]+\))", path.read_text())
        assert made, path
        assert {first.partition("(")[0] for first in made} == {"**client_options"}, path
