"""Simulated traffic: seeded, ordered, valid, labelled to the token, and like the real traffic it is drawn after."""

from __future__ import annotations

import gzip
import json
import math
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from stream.cli.simulate import command
from stream.events import ApiCall, epoch_seconds
from stream.gateways.errors import InputError
from stream.gateways.overdraw import parse
from stream.lab.parameters import LEVEL_LAG1, REAL, STEADY, WINDOW_SECONDS, Quantiles
from stream.lab.population import LARGEST_SHARE, populate, weibull_shapes
from stream.lab.scenarios import Attack, Scenario, scenario, scenarios
from stream.lab.simulate import DEFAULT_START, Simulation, bucket_counts, simulate
from stream.lab.simulate_output import records
from stream.lab.traffic import counts, levels, moments_in_window

pytestmark = pytest.mark.slow

SMALL = {"keys": 40, "days": 3.0, "rate": 0.1}


def flat(run: Simulation) -> list[bytes]:
    return [msgspec.json.encode(call) for hour in run for call in hour]


@pytest.mark.parametrize("name", scenarios())
def test_same_seed_same_bytes_and_another_seed_others(name: str) -> None:
    run = simulate(name, seed=5, **SMALL)
    first = flat(run)
    labels = run.labels
    assert flat(run) == first, "a run can be read twice"
    again = simulate(name, seed=5, **SMALL)
    assert (flat(again), again.labels) == (first, labels)
    assert flat(simulate(name, seed=6, **SMALL)) != first


@pytest.mark.parametrize("name", scenarios())
def test_calls_are_valid_in_time_order_and_their_ids_differ(name: str) -> None:
    run = simulate(name, seed=1, **SMALL)
    lines = flat(run)
    calls, rejects = parse([(i, line, run.end) for i, line in enumerate(lines)])
    assert rejects == []
    assert len(calls) == len(lines) > 10_000
    times = [time for _, time, _ in calls]
    assert times == sorted(times)
    assert run.start <= times[0]
    assert times[-1] < run.end
    assert len({call.event_id for _, _, call in calls}) == len(calls)
    known = {*run.population.key_ids, *(label.key_id for label in run.labels)}
    assert {call.key_id for _, _, call in calls} <= known


def test_calls_look_like_a_gateways() -> None:
    lines = flat(simulate("leaked-key", seed=1, **SMALL))
    documents = [json.loads(line) for line in lines]
    used = {name for document in documents for name in document}
    assert used <= set(ApiCall.model_fields)
    assert used >= {
        "org_id", "user_id", "model", "input_tokens", "output_tokens", "max_output_tokens", "status", "duration_ms",
        "client_ip", "asn", "country", "user_agent", "prompt_fingerprint", "cost_usd", "reasoning_tokens",
        "cached_input_tokens",
    }  # fmt: skip
    assert 350 < np.mean([len(line) for line in lines]) < 550
    untold = np.mean(["input_tokens" not in document for document in documents])
    assert 0.0005 < untold < 0.005
    failed = np.mean([document["status"] != 200 for document in documents])
    assert 0.002 < failed < 0.05
    for document in documents:
        if document["status"] != 200:
            assert (document["input_tokens"], document["output_tokens"]) == (0, 0)
        assert document.get("output_tokens", 0) <= document.get("max_output_tokens", 1 << 40)
        assert document.get("cached_input_tokens", 0) <= document.get("input_tokens", 1 << 40)


def test_nothing_in_a_call_says_that_it_is_an_attack() -> None:
    names = {frozenset(json.loads(line)) for line in flat(simulate("leaked-key", seed=1, **SMALL))}
    strays = {frozenset(json.loads(line)) for line in flat(simulate("calm", seed=1, **SMALL))}
    assert names <= strays


@pytest.mark.parametrize("name", [name for name in scenarios() if name not in ("calm", "pivot", "respawn")])
def test_a_labels_tokens_are_what_the_attacked_run_has_more_than_the_calm_one(name: str) -> None:
    attacked = simulate(name, seed=3, **SMALL)
    calm = set(flat(simulate("calm", seed=3, **SMALL)))
    more = [json.loads(line) for line in flat(attacked) if line not in calm]
    assert len(more) + len(calm) == len(flat(attacked)), "the calm calls are all there, unchanged"
    tokens: dict[str, int] = defaultdict(int)
    calls: dict[str, int] = defaultdict(int)
    spans = {label.key_id: (epoch_seconds(label.start), epoch_seconds(label.end)) for label in attacked.labels}
    for document in more:
        start, end = spans[document["key_id"]]
        assert start - 0.001 <= document["time"] < end
        tokens[document["key_id"]] += document["input_tokens"] + document["output_tokens"]
        calls[document["key_id"]] += 1
    labels = attacked.labels
    assert {label.key_id: (label.attack_tokens, label.attack_calls) for label in labels} == {
        key: (tokens[key], calls[key]) for key in spans
    }
    assert len(spans) == len(labels), "a key is struck once"


def test_an_attack_is_as_large_as_its_scenario_says() -> None:
    run = simulate("surge", seed=2, keys=60, days=7, rate=1.0)
    plan = scenario("surge").attacks[0]
    for _ in run:
        pass
    population = run.population
    (inputs, _), (outputs, _) = population.token_moments()
    assert len(run.labels) == max(plan.victims, round(plan.share * 60))
    for label in run.labels:
        key = population.key_ids.index(label.key_id)
        hours = (epoch_seconds(label.end) - epoch_seconds(label.start)) / 3600
        usual = population.rate[key] * (inputs[key] + outputs[key]) * 3600 * hours
        assert hours == plan.hours
        assert label.intensity >= plan.times - 0.01
        assert label.attack_tokens == pytest.approx((label.intensity - 1) * usual, rel=0.5)
        assert label.attack_tokens > 0.5 * plan.floor_tokens
        assert epoch_seconds(label.start) >= run.start + 0.6 * 7 * 86_400


def test_members_of_a_campaign_have_in_common_what_it_says() -> None:
    run = simulate("campaign", seed=4, keys=120, days=4, rate=0.15)
    calm = set(flat(simulate("calm", seed=4, keys=120, days=4, rate=0.15)))
    more = [json.loads(line) for line in flat(run) if line not in calm]
    members: dict[str, set[str]] = defaultdict(set)
    for label in run.labels:
        members[label.via or ""].add(label.key_id)
    assert {via: len(keys) >= 10 for via, keys in members.items()} == {"org": True, "network": True, "client": True}
    by_via = {via: [d for d in more if d["key_id"] in keys] for via, keys in members.items()}
    assert len({d["org_id"] for d in by_via["org"]}) == 1
    assert len({d["client_ip"].split("::")[0] for d in by_via["network"]}) == 1
    assert len({d["client_ip"] for d in by_via["network"]}) >= 10
    assert len({d["user_agent"] for d in by_via["client"]}) == 1
    assert len({d["prompt_fingerprint"] for d in by_via["client"]}) == 1
    starts = [epoch_seconds(label.start) for label in run.labels if label.via == "org"]
    assert max(starts) - min(starts) <= 10_800


def test_new_accounts_are_many_small_and_share_a_network_and_a_client() -> None:
    run = simulate("campaign-new-accounts", seed=3, keys=40, days=6, rate=0.1)
    plan = scenario("campaign-new-accounts").attacks[0]
    known = set(run.population.key_ids)
    calls = [json.loads(line) for line in flat(run)]
    new = [call for call in calls if call["key_id"] not in known]
    labels = run.labels
    assert {call["key_id"] for call in new} == {label.key_id for label in labels}
    assert len(labels) == plan.accounts
    assert not any(label.benign for label in labels)
    assert len({call["org_id"] for call in new}) == plan.accounts
    assert len({call["user_agent"] for call in new}) == 1
    assert len({call["client_ip"].split("::")[0] for call in new}) == 1
    days = plan.hours / 24
    assert len(new) == pytest.approx(
        plan.accounts * plan.calls_per_day * min(days, (run.end - epoch_seconds(labels[0].start)) / 86_400), rel=0.15
    )


def test_a_pivot_moves_half_of_its_keys_calls_and_takes_none() -> None:
    run, calm = (simulate(name, seed=3, keys=40, days=8, rate=0.1) for name in ("pivot", "calm"))
    before = [json.loads(line) for line in flat(calm)]
    after = [json.loads(line) for line in flat(run)]
    members = {label.key_id: epoch_seconds(label.start) + 86_400 for label in run.labels}
    assert len(members) >= 3
    for call in (*before, *after):
        call.pop("requested_model")
        call.pop("cost_usd", None)
        call.pop("reasoning_tokens", None)
    moved = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert {other["key_id"] for _, other in moved} <= set(members)
    assert all({**one, "model": other["model"]} == other for one, other in moved)
    assert len({other["model"] for _, other in moved}) == 1
    late = sum(call["key_id"] in members and call["time"] > members[call["key_id"]] for call in before)
    moved_late = sum(one["time"] > members[one["key_id"]] for one, _ in moved)
    assert moved_late == pytest.approx(late / 2, rel=0.15)
    assert sum(label.attack_calls for label in run.labels) == len(moved)


def test_blocked_keys_fall_silent_and_new_accounts_come_in_their_stead() -> None:
    run = simulate("respawn", seed=3, keys=60, days=8, rate=0.1)
    calls = [json.loads(line) for line in flat(run)]
    known = set(run.population.key_ids)
    refused = [call for call in calls if call["status"] in (401, 403)]
    blocked = {call["key_id"] for call in refused}
    assert blocked <= known
    end = max(call["time"] for call in refused)
    assert not any(call["key_id"] in blocked and call["time"] > end for call in calls)
    new = {label.key_id for label in run.labels}
    assert {call["key_id"] for call in calls} - known == new
    old_templates = {call["prompt_fingerprint"] for call in calls if call["key_id"] in blocked}
    known_prompts = [call["prompt_fingerprint"] in old_templates for call in calls if call["key_id"] in new]
    assert np.mean(known_prompts) > 0.9, "but for prompts that a seldom used key had not sent yet"


@pytest.mark.parametrize("name", ["class", "launch"])
def test_what_only_looks_like_an_attack_says_so(name: str) -> None:
    run = simulate(name, seed=3, **SMALL)
    assert flat(run) != flat(simulate("calm", seed=3, **SMALL))
    assert run.labels
    assert all(label.benign and label.attack_tokens > 0 for label in run.labels)


def test_sums_per_bucket_have_no_column_for_new_accounts() -> None:
    with pytest.raises(InputError, match="use the calls of `simulate`"):
        bucket_counts("respawn", keys=40, days=4)


def test_scenarios_are_data_that_make_sense() -> None:
    assert list(scenarios()) == [
        "calm", "surge", "drift", "leaked-key", "campaign", "campaign-new-accounts", "pivot", "respawn", "class",
        "launch", "mixed",
    ]  # fmt: skip
    for name, chosen in scenarios().items():
        assert chosen.name == name
        assert chosen.summary
        assert bool(chosen.attacks) == (name != "calm")
        for attack in chosen.attacks:
            assert bool(attack.via) == (attack.family not in ("surge", "drift"))
            assert attack.benign == (attack.family in ("class", "launch"))
            assert bool(attack.accounts) == bool(attack.calls_per_day) == (attack.via == "accounts")
            assert attack.times > 1 or attack.accounts or attack.family in ("pivot", "respawn")
            assert attack.victims > 0 or attack.accounts
            assert 0 <= attack.mimic <= 1
    with pytest.raises(InputError, match=r"did you mean 'surge'.*calm, surge, drift"):
        scenario("surgee")


@pytest.mark.parametrize("keys", [1, 2, 7])
@pytest.mark.parametrize("name", scenarios())
def test_a_handful_of_keys_and_a_short_run_will_do(name: str, keys: int) -> None:
    run = simulate(name, seed=0, keys=keys, days=0.3, rate=0.05)
    lines = flat(run)
    assert lines
    assert len(run.labels) <= keys + sum(attack.accounts for attack in scenario(name).attacks)
    assert parse([(i, line, run.end) for i, line in enumerate(lines)])[1] == []


def test_a_key_of_one_call_in_the_whole_run_does_no_harm() -> None:
    assert len(flat(simulate("calm", seed=0, keys=5, days=1, rate=1e-5))) < 20


# --- like the real thing: tolerances are about three standard errors of these runs ---


def test_the_rate_is_what_was_asked_for() -> None:
    made = [bucket_counts("calm", seed=s, keys=300, days=7, rate=1.0).calls.sum() / 604_800 for s in range(5)]
    assert np.mean(made) == pytest.approx(1.0, rel=0.2)


def test_client_rates_are_lognormal_with_bounded_ends() -> None:
    population = populate(REAL, 1, 5000, DEFAULT_START, 14, 5000 * 0.135)
    logs = np.log(population.rate)
    inner = (population.rate > population.rate.min() * 1.01) & (population.rate < population.rate.max() * 0.99)
    assert inner.mean() > 0.9
    q1, q3 = np.quantile(logs, [0.25, 0.75])
    assert (q3 - q1) / 1.349 == pytest.approx(2.2, rel=0.05)
    assert population.rate.max() <= LARGEST_SHARE * population.rate.sum()


def test_token_lengths_are_lognormal_as_published() -> None:
    population = populate(REAL, 1, 4000, DEFAULT_START, 14, 100)
    assert population.input_mu.mean() == pytest.approx(6.2, abs=0.06)
    assert population.input_mu.std() == pytest.approx(1.1, abs=0.05)
    assert population.output_mu.mean() == pytest.approx(3.8, abs=0.08)
    assert population.output_mu.std() == pytest.approx(1.6, abs=0.06)
    assert np.quantile(population.output_sd, [0.05, 0.5, 0.95]) == pytest.approx([0.2, 0.85, 2.1], rel=0.1)
    assert np.quantile(population.cv, [0.05, 0.25, 0.5, 0.75, 0.95]) == pytest.approx(
        [0.7, 1.0, 1.2, 2.2, 8.5], rel=0.1
    )


def test_a_keys_calls_have_its_lengths_and_its_gaps() -> None:
    run = simulate("calm", seed=2, keys=8, days=4, rate=1.5, profile=STEADY)
    population = run.population
    lengths, times = defaultdict(list), defaultdict(list)
    for hour in run:
        for call in hour:
            times[call.key_id].append(call.time)
            if call.input_tokens:
                lengths[call.key_id].append((call.input_tokens, call.output_tokens))
    checked = 0
    for k, key_id in enumerate(population.key_ids):
        if len(times[key_id]) < 20_000:
            continue
        checked += 1
        inputs, outputs = np.log(np.array(lengths[key_id]) + 0.5).T
        assert inputs.mean() == pytest.approx(population.input_mu[k], abs=0.03)
        assert inputs.std() == pytest.approx(population.input_sd[k], abs=0.03)
        assert outputs.mean() == pytest.approx(population.output_mu[k], abs=0.05)
        windows = np.split(t := np.array(times[key_id]), np.flatnonzero(np.diff(t // WINDOW_SECONDS)) + 1)
        cvs = [np.std(gaps) / np.mean(gaps) for gaps in (np.diff(w) for w in windows) if len(gaps) >= 20]
        assert np.median(cvs) == pytest.approx(population.cv[k], rel=0.15)
    assert checked >= 3


@pytest.mark.parametrize("cv", [0.7, 1.0, 1.2, 2.2, 8.5])
def test_counts_are_as_spread_as_a_renewal_process(cv: float) -> None:
    drawn = counts(np.random.default_rng(1), np.full((200_000, 1), 30.0), np.array([cv]))
    assert drawn.mean() == pytest.approx(30, rel=0.03)
    assert drawn.var() == pytest.approx(cv**2 * 30, rel=0.05)


@pytest.mark.parametrize("weibull", [False, True])
@pytest.mark.parametrize("cv", [0.7, 1.2, 2.2])
def test_gaps_inside_a_window_have_the_keys_cv(cv: float, weibull: bool) -> None:
    cells = np.full(300, 400)
    shape = float(weibull_shapes(np.array([cv]))[0]) if weibull else 0.0
    inside = moments_in_window(np.random.default_rng(1), cells, np.full(300, cv), np.full(300, shape)).reshape(300, 400)
    gaps = np.diff(inside, axis=1)
    assert (gaps >= 0).all()
    assert np.median(gaps.std(axis=1) / gaps.mean(axis=1)) == pytest.approx(cv, rel=0.1)


def test_mixed_sizes_of_gaps_keep_every_call_inside_its_window() -> None:
    rng = np.random.default_rng(1)
    cells = rng.integers(1, 50, 4000)
    inside = moments_in_window(rng, cells, np.full(4000, 13.0), np.where(np.arange(4000) % 2, 0.15, 0.0))
    assert np.isfinite(inside).all()
    assert (inside >= 0).all()
    assert (inside < 1).all()
    assert len(inside) == cells.sum()


def test_levels_wander_as_servegens_do() -> None:
    """ServeGen: median lag-1 autocorrelation of a client .87 to .94; sd of the log ratio .44 to .7."""
    population = populate(REAL, 2, 150, DEFAULT_START, 14, 150 * 1.5)
    expected = np.concatenate([block for _, block in levels(population, 2, DEFAULT_START, 14)])
    drawn = counts(np.random.default_rng(2), expected, population.cv)
    lag, ratios, episodes, key_days = [], [], 0, 0.0
    for column in drawn.T:
        active = column > 0
        both = active[1:] & active[:-1]
        if both.sum() < 50:
            continue
        logs = np.log(np.maximum(column, 1))
        lag.append(np.corrcoef(logs[1:][both], logs[:-1][both])[0, 1])
        ratios.append(np.diff(logs)[both])
        key_days += len(column) / 144
        above = np.zeros(len(column), bool)
        for i in range(36, len(column)):
            before = column[max(0, i - 144) : i]
            before = before[before > 0]
            above[i] = len(before) >= 36 and column[i] > 5 * np.median(before)
        episodes += int((above[1:] & ~above[:-1]).sum())
    assert np.median(lag) == pytest.approx(LEVEL_LAG1, abs=0.05)
    ratio = np.concatenate(ratios)
    assert 0.45 < ratio.std() < 0.85
    assert 0.05 < math.exp(np.quantile(ratio, 0.01)) < 0.2
    assert 5 < math.exp(np.quantile(ratio, 0.99)) < 20
    # the natural alarm floor of the rule "5 times the trailing day's median": .63 to 1.8 a day on real clients
    assert 0.6 < episodes / key_days < 1.8


def test_days_and_weekends_show() -> None:
    population = populate(STEADY, 3, 50, DEFAULT_START, 14, 5)
    hourly: dict[tuple[bool, int], list[float]] = defaultdict(list)
    for time, block in levels(population, 3, DEFAULT_START, 14):
        hourly[(time // 86_400 + 3) % 7 >= 5, int(time % 86_400 // 3600)].append(block.sum())
    week = [np.mean(hourly[False, h]) for h in range(24)]
    amplitude = (max(week) - min(week)) / (max(week) + min(week))
    assert 0.25 < amplitude < 0.75
    assert 11 <= int(np.argmax(week)) <= 17
    assert np.mean([np.mean(hourly[True, h]) for h in range(24)]) < 0.9 * np.mean(week)


def test_keys_are_born_later_sleep_and_run_batches() -> None:
    population = populate(REAL, 1, 2000, DEFAULT_START, 14, 100)
    assert (population.born > DEFAULT_START).mean() == pytest.approx(REAL.late_share, abs=0.04)
    assert np.quantile(population.on_share, 0.25) < 0.1
    assert population.batch.mean() == pytest.approx(REAL.batch_share, abs=0.03)
    batch = int(
        np.flatnonzero(population.batch & (population.batch_weekday < 0) & (population.born == DEFAULT_START))[0]
    )
    level = np.concatenate([block for _, block in levels(population, 1, DEFAULT_START, 14)])[:, batch]
    running = (level > 0).reshape(14, 144)
    length = population.batch_seconds[batch] / WINDOW_SECONDS
    assert (running.sum(axis=1) <= length + 1).all()
    assert 10 <= running.any(axis=1).sum() <= 14
    late = int(np.argmax(population.born))
    level = np.concatenate([block for _, block in levels(population, 1, DEFAULT_START, 14)])[:, late]
    assert not level[: int((population.born[late] - DEFAULT_START) // WINDOW_SECONDS)].any()


def test_organisations_have_a_heavy_tail() -> None:
    population = populate(REAL, 1, 1000, DEFAULT_START, 14, 100)
    sizes = np.sort(np.bincount(population.org))[::-1]
    assert sizes.sum() == 1000
    assert sizes[0] == 200
    assert np.median(sizes) <= 2
    assert len(sizes) > 50


def test_quantiles_come_back() -> None:
    table = Quantiles(((0.0, 1.0), (0.5, 2.0), (1.0, 8.0)))
    assert table.at(np.array([0.0, 0.5, 0.75, 1.0])).tolist() == pytest.approx([1, 2, 4, 8])


# --- sums without calls ---


def test_bucket_sums_follow_the_law_of_the_calls() -> None:
    options = {"keys": 30, "days": 4.0, "rate": 1.0, "profile": STEADY}
    fast = bucket_counts("calm", seed=1, **options)
    run = simulate("calm", seed=1, **options)
    slow = np.zeros((3, *fast.calls.shape))
    index = {key_id: k for k, key_id in enumerate(fast.key_ids)}
    for hour in run:
        for call in hour:
            at = int((call.time - fast.start) // fast.bucket_seconds), index[call.key_id]
            slow[0][at] += 1
            slow[1][at] += call.input_tokens or 0
            slow[2][at] += call.output_tokens or 0
    for theirs, mine in zip(slow, (fast.calls, fast.input_tokens, fast.output_tokens), strict=True):
        busy = theirs.sum(axis=0) > 5000
        assert mine.sum(axis=0)[busy] == pytest.approx(theirs.sum(axis=0)[busy], rel=0.1)
        # the spread from bucket to bucket too, not only the sum
        steps = [np.abs(np.diff(x[:, busy], axis=0)).mean(axis=0) for x in (mine, theirs)]
        assert steps[0] == pytest.approx(steps[1], rel=0.25)
    assert not fast.attack.any()


def test_bucket_sums_hold_the_attacks_and_their_labels() -> None:
    options = {"seed": 3, "keys": 60, "days": 10.0, "rate": 1.0}
    struck, calm = bucket_counts("mixed", **options), bucket_counts("calm", **options)
    more = struck.input_tokens + struck.output_tokens - calm.input_tokens - calm.output_tokens
    assert (more == struck.attack).all()
    for label in struck.labels:
        column = struck.attack[:, struck.key_ids.index(label.key_id)]
        assert column.sum() == label.attack_tokens > 0
        first, last = np.flatnonzero(column)[[0, -1]] * 300 + struck.start
        assert first >= epoch_seconds(label.start) - 300
        assert last < epoch_seconds(label.end)


def test_one_scenario_of_ones_own() -> None:
    own = Scenario("own", "", (Attack("drift", hours=24.0, victims=1, times=3.0, mimic=1.0),))
    run = simulate(own, seed=1, **SMALL)
    assert len(flat(run)) > 0
    assert [label.family for label in run.labels] == ["drift"]


# --- the command ---


def run_command(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, args)
    return result.exit_code, result.output


def test_the_command_writes_calls_and_labels_beside_them(tmp_path: Path) -> None:
    options = ("--scenario", "surge", "--keys", "20", "--days", "1", "--rate", "0.05", "--seed", "3")
    plain, packed = tmp_path / "a" / "calls.jsonl", tmp_path / "b" / "calls.jsonl.gz"
    for path in (plain, packed, tmp_path / "c" / "calls.jsonl.gz"):
        path.parent.mkdir()
        code, output = run_command(*options, "--to", str(path))
        assert code == 0, output
    lines = plain.read_bytes().splitlines()
    assert lines == flat(simulate("surge", seed=3, keys=20, days=1, rate=0.05))
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert packed.read_bytes() == (tmp_path / "c" / "calls.jsonl.gz").read_bytes()
    labels = [json.loads(line) for line in (plain.parent / "labels.jsonl").read_text().splitlines()]
    assert labels
    assert set(labels[0]) >= {"key_id", "family", "start", "end", "attack_tokens", "intensity", "mimic"}
    assert f"{len(lines):,} calls of 20 keys" in output


def test_what_goes_to_stdout_has_its_labels_in_the_working_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run_command("--scenario", "surge", "--keys", "20", "--days", "1", "--rate", "0.05", "--to", "-")
    assert code == 0, output
    assert (tmp_path / "labels.jsonl").read_text().startswith('{"key_id":')


def test_the_command_starts_when_it_is_told(tmp_path: Path) -> None:
    to = tmp_path / "calls.jsonl"
    for text, start in (("2026-03-01T00:00:00+01:00", 1_772_319_600.0), ("1700000000", 1.7e9)):
        code, output = run_command("--days", "0.1", "--rate", "0.2", "--start", text, "--to", str(to))
        assert code == 0, output
        times = [json.loads(line)["time"] for line in to.read_text().splitlines()]
        assert start <= times[0] < start + 1800
        assert times[-1] < start + 8640


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "--to FILE"),
        (("--to", "x", "--scenario", "nope"), "Known are calm"),
        (("--to", "x", "--keys", "0"), "--keys"),
        (("--to", "x", "--rate", "0"), "--rate"),
        (("--to", "x", "--days", "-1"), "--days"),
        (("--to", "old.jsonl", "--rate", "nan"), "nan is no number that can be worked with"),
        (("--to", "old.jsonl", "--rate", "inf"), "--rate"),
        (("--to", "old.jsonl", "--days", "nan"), "nan is no number that can be worked with"),
        (("--to", "old.csv"), "replay would read it as a table"),
        (("--to", "old.csv.gz"), "replay would read it as a table"),
        (("--to", "x.jsonl", "--labels", "-"), "--labels needs the name of a file"),
        (("--to", "x", "--seed", "-1"), "--seed"),
        (("--to", "x", "--start", "tomorrow"), "RFC 3339"),
        (("--to", "x", "--start", "2026-01-01T00:00:00"), "zone"),
        (("--to", "/none/such/x"), "cannot write /none/such/x"),
        (("--to", "x", "--speed", "1"), "--speed is for"),
        (("--to", "labels.jsonl"), "--labels FILE"),
    ],
)
def test_a_mistake_is_told_and_ends_with_2(args: tuple[str, ...], words: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("old.jsonl", "old.csv", "old.csv.gz"):
        Path(name).write_text("precious")
    code, output = run_command(*args)
    assert code == 2
    assert words in output
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"] * 3


def test_a_broker_that_is_not_there_ends_with_3(tmp_path: Path) -> None:
    options = ("--to", "kafka", "--labels", str(tmp_path / "l"), "--days", "0.01", "--set", "broker=127.0.0.1:1")
    code, output = run_command(*options)
    assert code == 3
    assert "overdraw broker" in output


def test_a_run_into_the_future_is_warned_of(tmp_path: Path) -> None:
    _, output = run_command("--days", "0.01", "--start", "2099-01-01T00:00:00Z", "--to", str(tmp_path / "x"))
    assert "ends in the future" in output
    _, output = run_command("--days", "0.01", "--to", str(tmp_path / "x"))
    assert "ends in the future" not in output


def test_scenarios_can_be_listed() -> None:
    code, output = run_command("--list")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == list(scenarios())


def test_records_for_kafka_are_time_key_and_json() -> None:
    run = simulate("calm", seed=1, keys=5, days=0.1, rate=0.1)
    made = [record for hour in run for record in records(hour)]
    assert all(a[0] <= b[0] for a, b in pairwise(made))
    assert all(json.loads(value)["key_id"] == key and json.loads(value)["time"] == time for time, key, value in made)
