"""What a setting does: one world, run again with one setting changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.table import Table

from stream.core.explain import span
from stream.core.rules import Rules
from stream.lab.evaluation.detector import detect
from stream.lab.evaluation.rows import per_1000, rows_of, scores_json
from stream.lab.evaluation.run import Case, Tell
from stream.lab.evaluation.scoring import Scores, score
from stream.lab.evaluation.table import share
from stream.settings import Settings


@dataclass(frozen=True, slots=True)
class Variant:
    """Settings in which one, `name`, has another `value`; no name: as they are."""

    name: str
    value: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class Effect:
    """What came out for one world with one variant."""

    world: str
    variant: Variant
    scores: Scores

    def as_json(self) -> dict[str, Any]:
        """The effect as plain data."""
        return {
            "world": self.world,
            "setting": self.variant.name or None,
            "value": self.variant.value or None,
            **scores_json(self.scores),
        }


def effects(
    case: Case,
    variants: Sequence[Variant],
    tell: Tell,
    *,
    jobs: int = 1,
    rules: Callable[[Settings], Rules] = Rules,
) -> Iterator[Effect]:
    """The effects of all variants on the world of a case, in their order."""
    tell(f"{case.name}: making it", 0, 1)
    world = case.make(True)
    tell(f"{case.name}: making it", 1, 1)
    for variant in variants:
        what = f"{case.name}, {variant.name}={variant.value}: keys" if variant.name else f"{case.name}: keys"
        alarms = detect(world, partial(rules, variant.settings), jobs=jobs, progress=partial(tell, what))
        yield Effect(case.name, variant, score(world, alarms))


def effects_table(found: Sequence[Effect]) -> Table:
    """The effects for people, world by world."""
    shown = Table(box=None, pad_edge=False)
    for name in ("world", "setting", "value"):
        shown.add_column(name)
    for name in ("false alerts per 1,000 key-days", "found", "not mimic", "mimic", "delay", "gone", "alerts", "page"):
        shown.add_column(name, justify="right")
    world = ""
    for effect in found:
        rate = per_1000(effect.scores.clean.alerts, effect.scores.clean.key_days)
        rows = {row.name: row for row in rows_of(effect.scores.attacks)}
        total = rows.get("all attacks")
        each = [share(rows[name].recall if name in rows else None) for name in ("not mimic", "mimic")]
        shown.add_row(
            "" if effect.world == world else effect.world,
            effect.variant.name or "as they are",
            effect.variant.value,
            "-" if rate is None else f"{rate[0]:.2f} [{rate[1][0]:.2f}–{rate[1][1]:.2f}]",
            share(total.recall if total else None),
            *each,
            "-" if total is None or total.delay_seconds is None else span(total.delay_seconds),
            share(total.share_gone if total else None),
            "-" if total is None or total.alerts is None else f"{total.alerts:.1f}",
            share(total.paged if total else None),
        )
        world = effect.world
    return shown
