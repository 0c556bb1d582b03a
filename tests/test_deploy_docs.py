"""deploy/README.md and the runbooks: commands parse, links lead somewhere, each kind of alert has its page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import click
import pytest

from stream.__main__ import cli
from stream.alerts import Alert, Kind
from stream.core.reasons import ASPECT_WORDS
from stream.settings import Settings
from stream.worker import feed
from stream.worker.faults import FAULTS
from stream.worker.instances import skewed
from stream.worker.metrics import metric_table

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
RUNBOOKS = DEPLOY / "runbooks"
PAGES = [DEPLOY / "README.md", *sorted(RUNBOOKS.glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
KINDS = {*get_args(Kind)}


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def commands() -> list[tuple[str, str]]:
    """Every line of a code block that begins with our program, and every one in the running text."""
    found = []
    for page in PAGES:
        text = text_of(page)
        lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
        lines += [
            " ".join(code.split())
            for code in re.findall(r"`(overdraw [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
        ]
        for line in lines:
            words = line.split(" #")[0].strip().removesuffix("&").strip()
            words = re.sub(r"^([A-Z_]+=\S+ )+", "", words)
            if words.startswith("overdraw ") and "…" not in words:
                found.append((page.stem, words))
    return sorted(set(found))


@pytest.mark.parametrize("line", [line for _, line in commands()], ids=[f"{page}-{line}" for page, line in commands()])
def test_a_command_is_understood(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    if isinstance(command, click.Group):
        return  # a group alone, in running text
    command.make_context(command.name or "", words, resilient_parsing=not words)


@each_page
def test_links_lead_to_files_that_there_are(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text_of(page)):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@each_page
def test_metrics_and_settings_that_are_named_exist(page: Path) -> None:
    text = text_of(page)
    metrics = {row.name for row in metric_table()}
    named = set(re.findall(r"\boverdraw_[a-z_]+", text)) - {"overdraw_web_token"}  # the secret of compose.yaml
    assert {name for name in named if not any(name == m or name.startswith(f"{m}_") for m in metrics)} == set()
    settings = {name.removeprefix("OVERDRAW_").lower() for name in re.findall(r"\bOVERDRAW_[A-Z_]+", text)}
    assert settings - {"config"} <= set(Settings.model_fields)


def test_each_kind_of_alert_has_a_runbook_and_only_those() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README", "prometheus"} == KINDS
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\)", text_of(RUNBOOKS / "README.md"), re.M)
    assert {name for name, target in listed if name == target} == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_runbook_says_what_to_do_and_when_it_is_over(kind: str) -> None:
    text = text_of(RUNBOOKS / f"{kind}.md")
    assert text.startswith(f"# {kind}: ")
    assert [word for word in ("**Means.**", "**Look.**", "**Ends**") if word not in text] == []
    assert "**Do.**" in text or "| do |" in text


def test_the_runbook_of_shapes_names_all_of_them() -> None:
    named = re.findall(r"^\| `(\w+)` \|", text_of(RUNBOOKS / "shape.md"), re.M)
    assert set(named) == set(ASPECT_WORDS)


def test_the_runbook_of_the_feed_names_all_that_can_be_wrong_with_it() -> None:
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]+`) \|", text_of(RUNBOOKS / "feed.md"), re.M)))
    made = {
        feed.silence(1.0, 1.0),
        feed.lost(1),
        feed.intake_lost(1),
        feed.hanging(1, 1.0),
        feed.anew("t", "b", 1),
        feed.cut(1, 1, 1),
        feed.gone("t", 1),
    }
    skew = skewed({"a": 9.0}, 1.0)
    assert skew is not None
    assert set(named) == {finding.name for finding in made} | {fault.name for fault in FAULTS} | {skew.name}


def test_the_fields_of_an_alert_that_are_named_exist() -> None:
    named = set(
        re.findall(r"`((?:excess|severity|data|suggested)_\w+|historical|alert_id)`", text_of(RUNBOOKS / "README.md"))
    )
    assert named
    assert named <= set(Alert.model_fields)
