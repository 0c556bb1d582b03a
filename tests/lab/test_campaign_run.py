"""The suite of campaigns from a world to its table: small, and with a history of days instead of weeks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from stream.alerts import Alert
from stream.cli.evaluate import command
from stream.core.grouprecord import HEAD_KEY
from stream.lab.evaluation import campaign_run
from stream.lab.evaluation.branching import Calm, run
from stream.lab.evaluation.campaign_oracle import Oracle
from stream.lab.evaluation.campaign_run import learned
from stream.lab.evaluation.installation import Installation
from stream.lab.worlds.campaigns import world as worlds
from stream.lab.worlds.campaigns.families import campaign_families
from stream.lab.worlds.campaigns.world import Branch, CampaignWorld
from stream.lab.worlds.tally import PER_DAY
from stream.settings import load_settings

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days of history, and one branch of each sort."""
    for module in (worlds, campaign_run):
        monkeypatch.setattr(module, "HISTORY_DAYS", 2)
    monkeypatch.setattr(campaign_run, "DAYS", 6)
    monkeypatch.setattr(campaign_run, "LEAST_DAYS", 6)
    monkeypatch.setattr(campaign_run, "ROUNDS", (("burst: 12,000 calls",),))
    monkeypatch.setattr(campaign_run, "SHORT_ROUNDS", ())
    monkeypatch.setattr(campaign_run, "CALM_ROUNDS", (("launch",),))


def left(installation: Installation, branch: Branch) -> tuple[list[Alert], list[dict[bytes, bytes | None]]]:
    """What is said in a branch, and all that is known after it."""
    alerts = run(installation, branch)
    assert installation.groups is not None
    return alerts, [dict(part.changes()) for part in (*installation.shards, installation.groups)]


def test_a_copy_of_an_installation_goes_on_as_the_first_one_does() -> None:
    world = CampaignWorld(4, "C", keys=20, days=4)
    first = learned(world, load_settings(environ={}))
    branch = world.branch(1, campaign_families(("burst: 12,000 calls",)))
    copies = [first.copy(), first.copy()]
    expected = left(first, branch)
    assert [left(copy, branch) for copy in copies] == [expected] * 2
    assert any(expected[1])


def test_a_branch_that_is_run_by_the_keys_that_differ_teaches_groups_the_same() -> None:
    world = CampaignWorld(4, "C", keys=40, days=3)
    settings = load_settings({"partitions": 2}, environ={})
    past = learned(world, settings)
    branch = world.branch(1, campaign_families(("few: 3 to 9 at +50 %",)))
    assert 0 < branch.differing(world.branch(0, ())).sum() < 20
    ran = Calm(past, world.branch(0, ())).run(branch)
    whole = past.copy()
    run(whole, branch)
    assert whole.groups is not None
    learned_by_all = [record for record in whole.groups.changes() if record[0] != HEAD_KEY]
    assert [record for record in ran.groups.changes() if record[0] != HEAD_KEY] == learned_by_all
    assert len(learned_by_all) > 20


def test_an_oracle_finds_what_is_large_and_knows_nothing_of_accounts_without_a_past() -> None:
    world = CampaignWorld(4, "C", keys=40, days=8)
    rows = ("few: 3 to 9 at +50 %", "new accounts: >= 20")
    few, new = world.branch(1, campaign_families(rows, most_new=20)).campaigns
    oracle = Oracle(world, 1.0)
    tenfold = replace(few, extra=replace(few.extra, tokens=10 * few.extra.tokens))
    hundredth = replace(few, extra=replace(few.extra, tokens=few.extra.tokens // 100))
    attained = [found for one in (tenfold, few, hundredth) if (found := oracle.attained(one)) is not None]
    assert len(attained) == 3
    chances, gone, _ = zip(*attained, strict=True)
    assert list(chances) == sorted(chances, reverse=True)
    assert chances[0] > 0.9 > 0.1 > chances[-1]
    # it looks at the end of a day, and this one begins in the midst of one
    first_day = few.extra.tokens[few.extra.bucket // PER_DAY == few.extra.bucket.min() // PER_DAY].sum()
    assert gone[0] == pytest.approx(first_day / few.tokens)
    assert list(gone) == sorted(gone)
    assert gone[-1] == 1.0
    assert oracle.attained(new) is None
    assert oracle.attained(replace(few, family="pivot")) is None


def test_time_goes_on_to_the_end_of_a_branch_in_all_shards_and_groups() -> None:
    world = CampaignWorld(4, "B", keys=12, days=4)
    installation = Installation(load_settings(environ={}))
    branch = world.branch(0, ())
    installation.observe(branch.days[0].calls())
    installation.finish(branch.end)
    assert {shard.watermark for shard in installation.shards if len(shard)} == {branch.end}


def test_the_suite_runs_from_worlds_to_rows() -> None:
    words = ["--suite", "campaigns", "--worlds", "1", "--keys", "40", "--jobs", "1", "--json"]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout.splitlines()[-1])
    [result] = document["results"]
    assert (document["suite"], result["worlds"]) == ("campaigns", ["B 2001"])
    assert result["clean"]["group_days"] > 0
    assert set(result["twins"]) <= {"launch"}
    assert [row["campaigns"] for row in result["campaigns"] if row["name"] == "burst"] == [1]
