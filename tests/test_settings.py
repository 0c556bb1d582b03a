"""Settings: which source wins, and what is said of a name or a value that cannot be."""

from __future__ import annotations

import zoneinfo
from datetime import date

import pytest
from pydantic import ValidationError

from stream.cli.common import settings_from
from stream.settings import MAX_PRIORS_BYTES, Settings, SettingsError, load_settings

SECRET = "s3cr3t-token-of-somebody"


def loaded(flags=None, environ=None, config=None):
    return load_settings(flags, environ=environ or {}, config=config)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "overdraw.toml"
    path.write_text('bucket_seconds = 600\npartitions = 3\nbroker = "kafka:9092"\n', "utf-8")
    return path


@pytest.mark.parametrize(
    ("file", "environ", "flags", "expected", "why"),
    [
        (False, {}, {}, 300, "the default"),
        (True, {}, {}, 600, "the file wins over the default"),
        (True, {"OVERDRAW_BUCKET_SECONDS": "60"}, {}, 60, "the environment over the file"),
        (True, {"OVERDRAW_BUCKET_SECONDS": "60"}, {"bucket_seconds": "10"}, 10, "a flag over the environment"),
        (False, {"overdraw_bucket_seconds": "60"}, {}, 300, "a name in lower case is another variable"),
        (False, {}, {"BUCKET_SECONDS": "10"}, 10, "a flag in upper case is the same setting"),
        (False, {"PATH": "/bin"}, {}, 300, "what is not ours is not read"),
    ],
)
def test_the_nearer_source_wins(config, file, environ, flags, expected, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path if file else tmp_path.parent)
    assert loaded(flags, environ).bucket_seconds == expected, why


def test_sources_are_merged_setting_by_setting(config):
    settings = loaded({"partitions": "5"}, {"OVERDRAW_MIN_CALLS": "9"}, config)
    assert (settings.partitions, settings.min_calls, settings.bucket_seconds) == (5, 9, 600)


def test_a_file_may_be_named_by_the_environment(config):
    assert loaded(environ={"OVERDRAW_CONFIG": str(config)}).partitions == 3


@pytest.mark.parametrize(
    ("flags", "environ", "words", "why"),
    [
        ({"bucket_second": "60"}, {}, ["bucket_second", "command line", "did you mean 'bucket_seconds'"], "a typo"),
        ({}, {"OVERDRAW_PARTITION": "2"}, ["PARTITION", "environment", "did you mean 'partitions'"], "in a variable"),
        ({"colour": "red"}, {}, ["colour", "overdraw schema settings"], "nothing like it"),
        ({"bucket_seconds": "7"}, {}, ["bucket_seconds", "command line", "10"], "below its limit"),
        ({"bucket_seconds": "420"}, {}, ["must divide 3600"], "no part of an hour"),
        ({"bucket_seconds": "soon"}, {}, ["bucket_seconds", "integer"], "no number"),
        ({}, {"OVERDRAW_BROKER": "kafka"}, ["broker", "environment", "host:port"], "no port"),
        ({"broker": "kafka:99999"}, {}, ["host:port"], "no such port"),
        ({"allowed_lateness_seconds": "nan"}, {}, ["allowed_lateness_seconds", "finite"], "not a number"),
        ({"min_excess_tokens": "inf"}, {}, ["min_excess_tokens", "finite"], "endless"),
        ({"source_topic": "a topic"}, {}, ["source_topic"], "a blank in a topic's name"),
        ({"partitions": "0", "min_calls": "0"}, {}, ["partitions", "min_calls", ";"], "every problem at once"),
        ({"timezone": "Berlin"}, {}, ["timezone", "command line", "'Berlin'", "Europe/Berlin"], "a city alone"),
        ({}, {"OVERDRAW_TIMEZONE": "europe/berln"}, ["timezone", "environment", "mean Europe/Berlin"], "a typo"),
        ({"timezone": "Europe"}, {}, ["timezone", "did you mean"], "a folder of zones"),
        ({"timezone": "../../etc/passwd"}, {}, ["timezone", "name one such as Europe/Berlin"], "no name"),
        ({"timezone": ""}, {}, ["timezone", "name one such as"], "nothing"),
        ({"holidays_file": "absent.csv"}, {}, ["holidays_file", "cannot read", "absent.csv"], "no such file"),
        ({"priors_file": "absent.json"}, {}, ["priors_file", "cannot read", "absent.json"], "no such file"),
        ({"store": "floppy"}, {}, ["store", "memory"], "what there is"),
        ({"broker": "me:geheim@kafka:9092"}, {}, ["broker", "kafka_username"], "a password where none belongs"),
        ({"kafka_security_protocol": "tls"}, {}, ["kafka_security_protocol", "'SASL_SSL'"], "no such protocol"),
        ({"kafka_sasl_mechanism": "GSSAPI"}, {}, ["kafka_sasl_mechanism", "'PLAIN'"], "not built"),
        ({"kafka_username": "a\nb"}, {}, ["kafka_username"], "a line end in a user's name"),
        ({"kafka_ca_file": "ca.crt"}, {}, ["is PLAINTEXT", "no use of kafka_ca_file: set it to SASL_SSL, or SSL"], ""),
        (
            {"kafka_username": "me"},
            {},
            ["is PLAINTEXT", "no use of kafka_username: set it to SASL_SSL"],
            "in the clear",
        ),
        ({"kafka_security_protocol": "SASL_SSL"}, {}, ["is SASL_SSL: say as whom, with kafka_username"], "nobody"),
        (
            {"kafka_security_protocol": "sasl_ssl", "kafka_username": "me"},
            {},
            ["is SASL_SSL: set OVERDRAW_KAFKA_PASSWORD, or name a file with kafka_password_file"],
            "no password",
        ),
        (
            {"kafka_security_protocol": "SASL_SSL", "kafka_username": "me", "kafka_password_file": "p"},
            {"OVERDRAW_KAFKA_PASSWORD": SECRET},
            ["kafka_password and kafka_password_file are both set: leave one out"],
            "which is it?",
        ),
        (
            {"kafka_security_protocol": "SSL", "kafka_key_file": "key.pem"},
            {},
            ["a private key and no certificate: name its file with kafka_cert_file"],
            "half a pair",
        ),
        ({"kafka_password": SECRET}, {}, ["kafka_password", "command line", "OVERDRAW_KAFKA_PASSWORD"], "seen by all"),
        ({"web_token": SECRET}, {}, ["others can read it there; set OVERDRAW_WEB_TOKEN"], "seen by all"),
        ({"KAFKA_KEY_PASSWORD": SECRET}, {}, ["kafka_key_password", "kafka_key_password_file"], "seen by all"),
    ],
)
def test_a_wrong_setting_says_which_from_where_and_what_to_do(flags, environ, words, why):
    with pytest.raises(SettingsError) as caught:
        loaded(flags, environ)
    for word in words:
        assert word in str(caught.value), why
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words", "why"),
    [
        (b"bucket_seconds = ", ["cannot read", "overdraw.toml"], "broken TOML"),
        (b"\xff\xfe", ["cannot read", "overdraw.toml"], "not UTF-8"),
        (b"bucket_secnds = 60", ["bucket_secnds", "overdraw.toml", "did you mean 'bucket_seconds'"], "a typo"),
        (b"[worker]\nbucket_seconds = 60", ["worker", "overdraw.toml"], "a table"),
        (b"bucket_seconds = 7", ["bucket_seconds", "overdraw.toml"], "a bad value"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, words, why):
    path = tmp_path / "overdraw.toml"
    path.write_bytes(text)
    with pytest.raises(SettingsError) as caught:
        loaded(config=path)
    for word in words:
        assert word in str(caught.value), why


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_file_that_is_not_there_is_an_error_if_it_was_named(tmp_path, by):
    path = str(tmp_path / "absent.toml")
    with pytest.raises(SettingsError, match="there is no configuration file"):
        loaded(
            environ={"OVERDRAW_CONFIG": path} if by == "environment" else {}, config=path if by == "argument" else None
        )


def test_no_secret_is_taken_from_the_command_line():
    secrets = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert secrets == {"kafka_password", "kafka_key_password", "pseudonym_key", "web_token"}
    for name in secrets:
        with pytest.raises(SettingsError, match=f"{name} from the command line"):
            loaded({name: SECRET})


def test_a_secret_is_shown_nowhere():
    settings = loaded(environ={"OVERDRAW_WEB_TOKEN": SECRET})
    assert settings.web_token.get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert SECRET not in shown


def test_the_passwords_for_kafka_are_handed_to_nobody_by_accident():
    settings = loaded(
        {"kafka_security_protocol": "sasl_ssl", "kafka_username": "me", "kafka_cert_file": "our.pem"},
        {"OVERDRAW_KAFKA_PASSWORD": SECRET, "OVERDRAW_KAFKA_KEY_PASSWORD": SECRET},
    )
    assert settings.kafka_password.get_secret_value() == settings.kafka_key_password.get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert SECRET not in shown
    assert "kafka_password" not in settings.model_dump()
    assert settings.config_digest == loaded().config_digest


def test_a_file_for_kafka_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = loaded({"kafka_security_protocol": "SSL", "kafka_ca_file": "ca.crt"})
    assert settings.kafka_ca_file == str(tmp_path / "ca.crt")


def test_an_error_beside_a_secret_does_not_show_it():
    with pytest.raises(SettingsError) as caught:
        loaded({"partitions": "0"}, {"OVERDRAW_WEB_TOKEN": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "web_token",
        "instance_id",
        "holidays_file",
        "priors_file",
        "notify_file",
        "kafka_username",
        "kafka_ca_file",
        "kafka_cert_file",
    ],
)
def test_an_empty_value_is_none(name):
    assert getattr(loaded(environ={f"OVERDRAW_{name.upper()}": ""}), name) is None


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().partitions = 2


@pytest.mark.parametrize(
    ("name", "value", "found", "stored"),
    [
        ("partitions", 2, True, True),
        ("bucket_seconds", 60, True, True),
        ("min_calls", 9, True, False),
        ("allowed_lateness_seconds", 5.0, True, False),
        ("max_keys", 10, True, False),
        ("timezone", "Europe/Berlin", True, False),
        ("log_level", "debug", False, False),
        ("web_port", 1, False, False),
    ],
)
def test_the_digests_change_with_what_they_stand_for(name, value, found, stored):
    other = Settings(**{name: value})
    assert (other.config_digest != Settings().config_digest) == found, "what decides what is found"
    assert (other.state_digest != Settings().state_digest) == stored, "what makes states incomparable"


def test_a_zone_is_named_by_its_own_spelling_alone():
    with pytest.raises(SettingsError, match=r"did you mean America/New_York\?$"):
        loaded({"timezone": "america/new york"})


@pytest.fixture
def holidays(tmp_path):
    path = tmp_path / "holidays.csv"
    path.write_text("date,end,name\n2026-12-24,2026-12-26,Christmas\n", "utf-8")
    return path


def test_holidays_are_read_at_the_start_and_then_stay(holidays):
    settings = loaded({"holidays_file": str(holidays)})
    holidays.unlink()
    days = {date(2026, 12, day) for day in (24, 25, 26)}
    assert settings.holidays == settings.model_copy(update={"min_calls": 9}).holidays == days
    assert Settings().holidays == frozenset()


def test_the_digest_is_of_the_holidays_not_of_their_file(holidays, tmp_path):
    digest = Settings(holidays_file=str(holidays)).config_digest
    other = tmp_path / "other.csv"
    other.write_text("date\n2026-12-26\n2026-12-25\n2026-12-24\n", "utf-8")
    assert Settings(holidays_file=str(other)).config_digest == digest, "the same days by other words"
    other.write_text("date\n2026-12-26\n", "utf-8")
    assert digest != Settings(holidays_file=str(other)).config_digest != Settings().config_digest
    assert Settings(holidays_file=str(other)).state_digest == Settings().state_digest


def test_a_bad_line_of_the_holidays_stops_the_start(holidays):
    holidays.write_text("date\n2026-12-24\n2026-12-32\n", "utf-8")
    with pytest.raises(SettingsError, match=r"^holidays_file: .*holidays\.csv, line 3: date is '2026-12-32': write"):
        loaded(environ={"OVERDRAW_HOLIDAYS_FILE": str(holidays)})


def test_a_file_of_holidays_is_found_from_another_folder_too(holidays, monkeypatch):
    monkeypatch.chdir(holidays.parent)
    settings = loaded({"holidays_file": "holidays.csv"})
    monkeypatch.chdir("/")
    assert Settings.model_validate(settings.model_dump(mode="json")).holidays == settings.holidays != frozenset()


def test_zones_are_there_without_the_systems_own():
    """A slim image has none: the package tzdata is a dependency."""
    zoneinfo.reset_tzpath(to=())
    try:
        zoneinfo.ZoneInfo.clear_cache()
        assert loaded({"timezone": "Europe/Berlin"}).zone.key == "Europe/Berlin"
        with pytest.raises(SettingsError, match="did you mean Europe/Berlin"):
            loaded({"timezone": "Europe/Berln"})
    finally:
        zoneinfo.reset_tzpath()


def test_every_setting_is_described():
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_two_roles_cannot_share_a_topic() -> None:
    with pytest.raises(SettingsError, match=r"^source_topic and state_topic are both 'x': each needs a topic"):
        load_settings({"source_topic": "x", "state_topic": "x"}, environ={})
    with pytest.raises(SettingsError, match=r"^source_topic and intake_topic are both 'x': each needs a topic"):
        load_settings({"source_topic": "x", "intake_topic": "x"}, environ={})


def test_an_empty_intake_topic_is_none() -> None:
    assert load_settings({}, environ={"OVERDRAW_INTAKE_TOPIC": ""}).intake_topic is None


def test_a_log_level_may_be_in_capitals() -> None:
    assert load_settings({}, environ={"OVERDRAW_LOG_LEVEL": "DEBUG"}).log_level == "debug"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "not a priors file: there is no 'version' in it; `overdraw calibrate` writes a whole one"),
        ("[1]", "not a priors file: a part of it is of another shape than `overdraw calibrate` writes it"),
        ('{"version": 2, "laws": {"level_10m": []}}', "a part of it is of another shape"),
        ('{"version": 2, "laws": {}}', "there is no 'rule' in it"),
        ("{", "not a priors file: it is not JSON: Expecting"),
        ('{"version": 1}', "a priors file of version 1"),
    ],
)
def test_a_damaged_priors_file_is_told_without_pythons_own_words(tmp_path, text, said):
    path = tmp_path / "priors.json"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        settings_from([f"priors_file={path}"])
    assert str(caught.value).startswith(f"priors_file: {path}: ")
    assert said in str(caught.value)
    assert "Error" not in str(caught.value)


def test_priors_are_read_at_the_start_and_then_stay(tmp_path, monkeypatch):
    path = tmp_path / "priors.json"
    path.write_text("{}", "utf-8")
    monkeypatch.chdir(tmp_path)
    settings = loaded({"priors_file": "priors.json"})
    path.unlink()
    assert settings.priors_file == str(path)
    assert settings.priors_text == settings.model_copy(update={"min_calls": 9}).priors_text == "{}"
    assert Settings().priors_text is None
    assert settings.state_digest == Settings().state_digest, "states outlive other priors"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff", "not UTF-8"), (b" " * (MAX_PRIORS_BYTES + 1), "larger than 4 MiB")],
)
def test_a_file_that_cannot_be_priors_stops_the_start(tmp_path, content, said):
    path = tmp_path / "priors.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"^priors_file: .*priors\.json is {said}"):
        loaded({"priors_file": str(path)})
