"""A Kafka with TLS, passwords, client certificates and access rules: all works with the least rights, and what is
wrong is named in one line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterator

import pytest

from stream.alerts import Alert
from stream.worker.cluster import BrokerUnreachable, cluster
from stream.worker.rights import missing_rights
from tests.kafka import rights
from tests.kafka.conftest import CACHE
from tests.kafka.rights import Rule
from tests.kafka.secured import PASSWORDS, Secured, in_force, listed, rules_of, secured_kafka
from tests.kafka.workers import Start, eventually, overdraw, sums, traffic

pytestmark = pytest.mark.xdist_group("secured")  # they share a broker of their own


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One broker for all tests here."""
    with secured_kafka(tmp_path_factory.mktemp("secured"), CACHE) as made:
        yield made


def test_check_names_each_missing_right_by_a_command_that_grants_it_and_the_page_lists_no_more(
    secured: Secured,
) -> None:
    nobody = secured.settings("nobody")
    granted: set[Rule] = set()
    for _ in range(4):  # a topic that is hidden tells nothing of its other rights
        done = overdraw(nobody, "check", "--keys", "10")
        assert done.stderr == ""
        remedies = re.findall(r"→ grant it \((kafka-acls .+)\)", done.stdout)
        if not remedies:
            break
        assert done.returncode == 1
        assert "we lack the right" in done.stdout
        rules = {rule for remedy in remedies for rule in rules_of(remedy)}
        assert not rules & granted
        granted |= rules
        secured.grant(list(rules))

        asked = {f"grant it ({remedy})" for remedy in remedies}
        eventually(lambda asked=asked: not asked & {p.remedy for p in asyncio.run(missing_rights(nobody))})
    assert done.returncode == 0, done.stdout
    assert "ok       connection: SASL_SSL as nobody, by SCRAM-SHA-512; certificates and host names are" in done.stdout
    implied = {rule for rule in granted if rule.operation == rights.DESCRIBE}
    assert granted - implied == set(listed("overdraw", "User:nobody"))


def test_who_may_not_write_calls_is_told_the_command_that_grants_it(secured: Secured) -> None:
    stranger = secured.settings("stranger")
    recorded = secured.folder / "one.jsonl"
    recorded.write_bytes(traffic()[0][1] + b"\n")
    wanted = "grant it (kafka-acls --add --allow-principal User:stranger --operation Write --topic api-calls)"
    for rules in ([], [rule for rule in listed("gateway", "User:stranger") if rule.operation != rights.WRITE]):
        if rules:
            secured.grant([*rules, *(Rule(r.kind, r.name, rights.DESCRIBE, principal=r.principal) for r in rules)])
        done = overdraw(stranger, "feed", str(recorded), "--speed", "0")
        assert done.returncode == 3
        assert f"Error: api-calls: we lack the right Write: {wanted}" in done.stderr


def test_an_attack_is_found_and_explained_by_a_worker_and_people_with_the_least_rights(
    secured: Secured, start: Start
) -> None:
    worker_settings, reader = secured.settings(), secured.settings("reader", kafka_sasl_mechanism="SCRAM-SHA-256")
    secured.grant([rule for user in ("overdraw", "gateway", "reader") for rule in listed(user)])
    in_force(worker_settings)
    events = traffic()
    recorded = secured.folder / "calls.jsonl"
    recorded.write_bytes(b"".join(value + b"\n" for _, value in events))
    fed = overdraw(
        secured.settings("gateway", kafka_sasl_mechanism="PLAIN"), "feed", str(recorded), "--speed", "0", "--json"
    )
    assert fed.returncode == 0, fed.stderr
    assert json.loads(fed.stdout)["events"] == len(events)
    worker = start(worker_settings).wait_ready()

    def dumped() -> dict[str, tuple[int, int, int]]:
        lines = overdraw(reader, "state", "dump", "--json").stdout.splitlines()
        views = [json.loads(line) for line in lines]
        return {view["key_id"]: (view["calls"], view["input_tokens"], view["output_tokens"]) for view in views}

    eventually(lambda: dumped() == sums(events), 60, worker.said)
    tail = overdraw(reader, "alerts", "tail", "--from-beginning", "--for", "2", "--json")
    assert tail.returncode == 0, tail.stderr
    alerts = [Alert.model_validate_json(line) for line in tail.stdout.splitlines()]
    opened = {alert.entity.id for alert in alerts if alert.status == "opened"}
    assert {"key-0", "key-1", "key-2"} <= opened
    explained = overdraw(reader, "explain", "key-0")
    assert explained.returncode == 0, explained.stderr
    assert "key-0" in explained.stdout
    code, _ = worker.end()
    said = worker.said()
    assert code == 0, said
    assert " WARNING " not in said
    assert " ERROR " not in said


def test_workers_run_by_password_or_certificate_and_their_log_shows_no_secret_at_any_level(
    secured: Secured, start: Start
) -> None:
    by_password = secured.settings(kafka_sasl_mechanism="PLAIN", log_level="debug")
    by_certificate = secured.settings(listener="SSL", app_id="overdraw-tls")
    names = {"overdraw": "overdraw-tls", "overdraw-": "overdraw-tls-"}
    other = [
        Rule(r.kind, names.get(r.name, r.name), r.operation, pattern=r.pattern, principal=r.principal)
        for r in listed("overdraw", "User:CN=worker")
    ]
    secured.grant([*listed("overdraw"), *other])
    for settings in (by_password, by_certificate):
        in_force(settings)
    workers = [start(settings, instance=f"w-{n}") for n, settings in enumerate((by_password, by_certificate))]
    for worker in workers:
        worker.wait_ready()
    assert [worker.end()[0] for worker in workers] == [0, 0]
    assert "Request to 127.0.0.1" in workers[0].said(), "aiokafka says all that it sends"
    for worker in workers:
        assert PASSWORDS["overdraw"] not in worker.said()
        assert "Traceback" not in worker.said()


@pytest.mark.parametrize(
    ("listener", "changes", "words", "why"),
    [
        ("SASL_SSL", {"kafka_password_file": "nobody"}, "does not accept user overdraw with this password", "SCRAM"),
        (
            "SASL_SSL",
            {"kafka_password_file": "nobody", "kafka_sasl_mechanism": "PLAIN"},
            "does not accept user overdraw with this password (PLAIN): look at kafka_username",
            "PLAIN",
        ),
        ("SASL_SSL", {"kafka_username": "somebody"}, "does not accept user somebody", "no such user"),
        ("SASL_SSL", {"kafka_ca_file": "theirs.crt"}, "none of those in", "another authority"),
        ("SASL_SSL", {"broker": "localhost"}, "for another name (Hostname mismatch", "the certificate says 127.0.0.1"),
        ("SASL_SSL", {"broker": "PLAINTEXT"}, "speaks no TLS on this port", "the port without TLS"),
        ("SASL_SSL", {"broker": "SSL"}, "asks for a certificate of ours", "the port for certificates"),
        ("PLAINTEXT", {"broker": "SASL_SSL"}, "speaks TLS on this port, and kafka_security_protocol is PLAINTEXT", ""),
        ("SSL", {"broker": "SASL_SSL"}, "asks for a password (", "a certificate alone is not enough"),
        ("SSL", {"kafka_cert_file": "", "kafka_key_file": ""}, "asks for a certificate of ours (", "none is shown"),
        (
            "SSL",
            {"kafka_cert_file": "stranger.pem", "kafka_key_file": ""},
            "does not accept our certificate in",
            "issued by somebody else",
        ),
    ],
)
async def test_what_does_not_fit_is_named_in_one_line_with_what_to_do(
    secured: Secured, listener: str, changes: dict[str, str], words: str, why: str
) -> None:
    for name, value in changes.items():
        if name.endswith("_file") and value:
            changes = {**changes, name: str(secured.folder / value)}
        elif value == "localhost":
            changes = {**changes, name: secured.kafka.bootstrap.replace("127.0.0.1", value)}
        elif name == "broker":
            changes = {**changes, name: secured.kafka.listeners[value]}
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with pytest.raises(BrokerUnreachable) as caught:
        async with cluster(secured.settings(listener=listener, **changes)):
            pass
    said = str(caught.value)
    assert words in said, why
    assert said.startswith("Kafka at ")
    assert len(said) < 400
    assert "\n" not in said
    assert ": " in said


def test_every_command_ends_with_one_line_where_the_password_or_its_file_is_wrong(secured: Secured) -> None:
    wrong = secured.settings(kafka_password_file=secured.folder / "nobody")
    for command in (["worker"], ["feed", os.devnull], ["alerts", "tail"], ["explain", "key-0"]):
        done = overdraw(wrong, *command)
        assert (done.returncode, len(done.stderr.splitlines())) == (3, 1), (command, done.stderr)
        assert "does not accept user overdraw with this password (SCRAM-SHA-512): look at" in done.stderr
    done = overdraw(wrong, "check")
    assert (done.returncode, done.stderr) == (3, "")
    assert "problem  broker: Kafka at 127.0.0.1:" in done.stdout
    absent = secured.settings(kafka_password_file=secured.folder / "absent")
    done = overdraw(absent, "worker")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "kafka_password_file: cannot read" in done.stderr
    assert f"make it readable for user {os.getuid()}" in done.stderr
