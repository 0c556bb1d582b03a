"""`overdraw evaluate`: how much is found, how soon, and at what price in false alerts."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from stream.cli.common import FOUND, BadInput, FiniteRange, settings_from, settings_options
from stream.cli.evaluate_options import CAMPAIGNS, KNOBS, NAB, refusal

if TYPE_CHECKING:
    from rich.console import Console

    from stream.lab.evaluation.floors import Held
    from stream.lab.evaluation.knobs import Effect, Variant
    from stream.lab.evaluation.run import Case, Result
    from stream.lab.evaluation.suites import Wish
    from stream.settings import Settings

DIAL_RANGE = FiniteRange(0.01, 1000)


@click.command()
@click.option(
    "--suite", default="synthetic", show_default=True, metavar="NAME", help="synthetic, servegen, campaigns, nab or ci."
)
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="servegen, nab: the data."
)
@click.option("--seed", type=click.IntRange(0), help="Same seed, same worlds; 2001. Below 1000: only with --tuning.")
@click.option("--keys", type=click.IntRange(10, 100_000), help="API keys of each world; 200, campaigns: 400.")
@click.option("--days", type=click.IntRange(29, 366), help="Days, three weeks of them warm-up; 42.")
@click.option("--worlds", type=click.IntRange(1, 500), metavar="N", help="campaigns: how many worlds; 6.")
@click.option(
    "--dial", "dials", type=DIAL_RANGE, multiple=True, metavar="X",
    help="False alerts per 1,000 key-days that are asked for; again for several. Else the setting's.",
)  # fmt: skip
@click.option(
    "--against", multiple=True, metavar="NAME", help="Also try what others use; all, or see below. Repeatable."
)
@click.option(
    "--vary",
    "knobs",
    multiple=True,
    metavar="NAME=A,B,…",
    help="Show what a setting does: the worlds again with each of its values. Repeatable.",
)
@click.option(
    "--caution", type=FiniteRange(0, 1), default=0.0, metavar="DECADES",
    help="As if data were so poor all the time that the bar for alerts is raised by so much, 0 to 1.",
)  # fmt: skip
@click.option(
    "--calibrated", is_flag=True,
    help="Set each world's dial as `overdraw calibrate` does, by the traffic of other keys of its kind; see below.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), help="Processes; as many as there are cores. The result is the same.")
@click.option("--tuning", is_flag=True, help="No report: the profiles that are tuned on, seeds below 1000; 1.")
@click.option("--floors", is_flag=True, help="ci: exit 1 if a floor is missed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@settings_options
@click.pass_context
def command(
    context: click.Context,
    suite: str,
    data: Path | None,
    seed: int | None,
    keys: int | None,
    days: int | None,
    worlds: int | None,
    dials: tuple[float, ...],
    against: tuple[str, ...],
    knobs: tuple[str, ...],
    caution: float,
    calibrated: bool,
    jobs: int | None,
    tuning: bool,
    floors: bool,
    as_json: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Run labelled worlds through the detector: what is found, how soon, and at what price in false alerts.

    Worlds are made of keys with and without attacks, and of look-alikes that are nobody's fault. Each is run key by key
    through the detector's own code, incidents and all. The suites: synthetic (made-up traffic: two profiles that were
    tuned on with other seeds, one that never was; each world says which), servegen (keys cut from real traffic, which
    you have to fetch), ci (small and always the same), nab (`overdraw score` on the Numenta Anomaly Benchmark, a folder
    with its data and labels: another detector, a check), campaigns (many accounts that are drained together, found
    through what they share, beside what alerts of single keys show; each world goes on in fifteen ways, with campaigns,
    with benign twins, with nothing).

    False alerts are counted on clean key-days: a UTC day with a call, after the key's first week, with no attack or
    look-alike near. An attack is found if an incident opens between its start and an hour after its end. `gone` is the
    part of its tokens that was taken before. `by chance` is what alerts hit where the same keys are not attacked, and
    `oracle` what a detector attains that knows everything but the moment.

    --calibrated does first what a user should: it sets the dial by a history, six weeks of at least 1,200 other keys of
    the same profile, without attacks, its look-alikes left out. (Of real clients there are no others that nothing was
    tuned on.)

    --against tries on the same worlds, with as many false alerts: static (a limit per hour), static-mean (times the
    key's mean), zscore-1d, zscore-7d (PromQL), grafana (adaptive bands), adwin, halfspace (River). Each gets the
    threshold that is best on this very data, which nobody knows beforehand: that favours them.

    \b
    Example:
      overdraw evaluate
      overdraw evaluate --dial 1 --dial 10 --against all
      overdraw evaluate --suite servegen --data ServeGen --json > report.json
      overdraw evaluate --suite campaigns --worlds 20
      overdraw evaluate --suite nab --data NAB
      overdraw evaluate --suite ci --floors
      overdraw evaluate --suite ci --caution 1
      overdraw evaluate --keys 1200 --calibrated
      overdraw evaluate --suite ci --vary min_excess_tokens=30000,300000 --vary accept_days=3,14
    """
    from stream.lab.evaluation.calibrated import HistoryError
    from stream.lab.evaluation.floors import held
    from stream.lab.evaluation.knobs import effects
    from stream.lab.evaluation.rivals import RIVALS
    from stream.lab.evaluation.run import Manner, calibrations_of, cautious, evaluate
    from stream.lab.evaluation.suites import CI_DIAL, SUITES, SuiteError, Wish
    from stream.lab.worlds.clients import NoTracesError
    from stream.lab.worlds.tally import BUCKET_SECONDS

    if suite not in (*SUITES, CAMPAIGNS, NAB):
        raise BadInput(f"there is no suite {suite!r}: choose {', '.join((*SUITES, CAMPAIGNS, NAB))}")
    given = [option.opts[0] for option in context.command.params if _is_given(context, option)]
    if (why := refusal(suite, given)) is not None:
        raise BadInput(why)
    wish = Wish(seed, keys, days, data, tuning)
    if suite == NAB:
        return _nab(data, as_json)
    if suite == CAMPAIGNS:
        _campaigns(wish, worlds, settings_from(assignments, config), jobs or os.cpu_count() or 1, as_json)
        return
    settings = settings_from(assignments, config)
    if settings.bucket_seconds != BUCKET_SECONDS:
        raise BadInput(f"the worlds have buckets of {BUCKET_SECONDS} s, the settings say {settings.bucket_seconds}")
    variants = _variants(knobs, assignments, config, settings)
    rivals = tuple(RIVALS) if "all" in against else tuple(dict.fromkeys(against))
    if unknown := [name for name in rivals if name not in RIVALS]:
        raise BadInput(f"--against {unknown[0]}: choose all, or of {', '.join(RIVALS)}")
    manner = Manner(
        settings=settings,
        dials=(CI_DIAL,) if suite == "ci" else dials or (settings.false_alerts_per_1000_key_days,),
        against=rivals,
        jobs=jobs or os.cpu_count() or 1,
        rules=partial(cautious, caution),
    )
    progress = _Progress()
    results: list[Result] = []
    found: list[Effect] = []
    try:
        cases: list[Case] = SUITES[suite](wish)
        # all of them first: one that is too short must not be known only after hours
        by = {case.name: calibrations_of(case, manner, progress) for case in cases if calibrated}
        for case in cases:
            if knobs:
                found += effects(case, variants, progress, jobs=manner.jobs)
            else:
                results += evaluate(case, manner, progress, by.get(case.name))
    except HistoryError as error:
        raise BadInput(f"--calibrated: {error}; --dial sets another one") from error
    except (SuiteError, NoTracesError) as error:
        raise BadInput(str(error)) from error
    if knobs:
        _show_effects(suite, found, as_json)
        return
    kept = held(results) if suite == "ci" and not caution else []
    if as_json:
        click.echo(json.dumps(_document(suite, tuning, settings.config_digest, results, kept)))
    else:
        _show(results, kept)
    if floors and not all(one.ok for one in kept):
        sys.exit(FOUND)


def _is_given(context: click.Context, option: click.Parameter) -> bool:
    return option.name is not None and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE


def _variants(
    knobs: tuple[str, ...], assignments: tuple[str, ...], config: str | None, settings: Settings
) -> list[Variant]:
    """The settings as they are, then with each value of each knob."""
    from stream.lab.evaluation.knobs import Variant

    variants = [Variant("", "", settings)]
    for knob in knobs:
        name, sign, values = knob.partition("=")
        if not sign or name == "bucket_seconds":
            raise BadInput(f"--vary {knob}: give a setting but bucket_seconds and its values, such as min_calls=3,12")
        if name.lower() in type(settings).model_fields and name.lower() not in KNOBS:
            raise BadInput(f"--vary {name}: it has no effect on what is found here: choose of {', '.join(KNOBS)}")
        for value in values.split(","):
            changed = settings_from((*assignments, f"{name}={value}"), config)
            variants.append(Variant(name, value, changed))
    return variants


def _show_effects(suite: str, found: list[Effect], as_json: bool) -> None:
    from stream.lab.evaluation.knobs import effects_table

    if as_json:
        click.echo(json.dumps({"suite": suite, "effects": [effect.as_json() for effect in found]}))
    else:
        _console().print(effects_table(found))


def _nab(data: Path | None, as_json: bool) -> None:
    """Judge `overdraw score` by the Numenta Anomaly Benchmark."""
    from stream.gateways.errors import InputError
    from stream.lab.nab import nab_report, nab_table

    if data is None:
        raise BadInput("the suite nab needs its series: --data DIR, a copy of https://github.com/numenta/NAB")
    try:
        report = nab_report(data)
    except InputError as error:
        raise BadInput(str(error)) from error
    click.echo(json.dumps({"suite": NAB, **asdict(report)}) if as_json else nab_table(report))


def _campaigns(wish: Wish, worlds: int | None, settings: Settings, jobs: int, as_json: bool) -> None:
    """Look for campaigns."""
    from stream.lab.evaluation.campaign_run import campaign_cases, evaluate_campaigns
    from stream.lab.evaluation.campaign_table import CAMPAIGN_LEGEND, campaign_tables
    from stream.lab.evaluation.suites import SuiteError
    from stream.lab.worlds.tally import BUCKET_SECONDS

    if settings.bucket_seconds != BUCKET_SECONDS:
        raise BadInput(f"the worlds have buckets of {BUCKET_SECONDS} s, the settings say {settings.bucket_seconds}")
    try:
        cases = campaign_cases(wish, worlds)
    except SuiteError as error:
        raise BadInput(str(error)) from error
    results = evaluate_campaigns(cases, settings, _Progress(), jobs=jobs)
    if as_json:
        found = [result.as_json() for result in results]
        document = {"suite": CAMPAIGNS, "tuning": wish.tuning, "config_digest": settings.config_digest}
        click.echo(json.dumps({**document, "results": found}))
        return
    console = _console()
    for result in results:
        for part in campaign_tables(result):
            console.print(part)
        console.print()
    console.print(CAMPAIGN_LEGEND, style="dim")


class _Progress:
    """What is being done, on stderr: on a terminal one line that changes, elsewhere one for each thing done."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.begun = time.monotonic()

    def __call__(self, what: str, done: int, of: int) -> None:
        if done == of:
            end = "\r\x1b[K" if self.live else ""
            click.echo(f"{end}… {what}: {time.monotonic() - self.begun:.0f} s", err=True)
        elif self.live:
            click.echo(f"\r\x1b[K… {what}: {done} of {of}", err=True, nl=False)


def _document(suite: str, tuning: bool, digest: str, results: list[Result], kept: list[Held]) -> dict[str, object]:
    return {
        "suite": suite,
        "tuning": tuning,
        "config_digest": digest,
        "results": [result.as_json() for result in results],
        "floors": [one.as_json() for one in kept],
    }


def _show(results: list[Result], kept: list[Held]) -> None:
    from stream.lab.evaluation.table import LEGEND, tables

    console = _console()
    for result in results:
        for part in tables(result):
            console.print(part)
        console.print()
    for one in kept:
        console.print(str(one), style="" if one.ok else "bold red")
    console.print(LEGEND, style="dim")


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    return console
