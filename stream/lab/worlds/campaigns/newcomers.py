"""Campaigns of accounts that have no history: registered by the hundred, taken over from blocked ones, a burst."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from stream.lab.worlds.campaigns.established import (
    AGENTS,
    EXTRACTION_OUTPUT,
    EXTRACTION_SD,
    Victims,
    campaign,
    extraction,
    extraction_by,
    victims,
    window,
)
from stream.lab.worlds.campaigns.labels import Campaign, Link
from stream.lab.worlds.campaigns.records import Guise, Records
from stream.lab.worlds.campaigns.scene import HOUR, Scene
from stream.lab.worlds.draws import MODELS, Floats
from stream.lab.worlds.tally import PER_DAY
from stream.lab.worlds.world import Sums

PACES = ((26.0, 20, 400), (730.0, 20, 60), (860.0, 20, 60))
"""Calls a day of an account, and how many accounts there are: 25,000, 273 and 3,500 were published, which no test of
this size holds."""
WAYS = ("network and client", "template", "asn", "rotating")
BURST_CALLS = 12_000
FORBIDDEN = (401, 403)


@dataclass(frozen=True, slots=True)
class Registered:
    """New accounts, what links them, what their calls show, and the networks that they take by turns, if they do."""

    keys: Sums
    links: tuple[Link, ...]
    guise: Guise
    pool: Sums | None


def registered(scene: Scene, count: int, way: str) -> Registered:
    """New accounts, each an organisation of its own, linked in one of WAYS.

    network and client: one to three networks and a client that nobody had; template: networks and clients are
    everybody's, the prompt is their own; asn: all else differs; rotating: one client, other networks every day
    """
    rng, book, names = scene.rng, scene.book, scene.names
    links: list[Link] = []
    asns = sorted(set(names.network_asns))
    asn = int(rng.choice(asns))
    client = template = None
    if way in ("network and client", "rotating"):
        client, link = scene.client(f"{rng.choice(AGENTS)} {scene.seed}.{len(names.clients)}")
        links.append(link)
    if way == "template":
        template, link = scene.template()
        links.append(link)
    if way == "network and client":
        pool = []
        for _ in range(int(rng.integers(1, 4))):
            number, link = scene.network(asn)
            pool.append(number)
            links.append(link)
        networks = rng.choice(pool, (count, 1))
    elif way == "template":
        networks = rng.integers(0, len(names.networks), (count, 1))
    else:
        of_asn = [asn] * count if way == "asn" else rng.choice(asns, max(4, count // 5)).tolist()
        pool = [scene.network(int(number))[0] for number in of_asn]
        networks = np.array(pool)[:, None] if way == "asn" else rng.choice(pool, (count, 1))
        if way == "asn":
            links.append(("asn", str(asn)))
    everybodys = rng.integers(0, min(9, len(scene.world.names.clients)), (count, 1))
    first = len(book)
    keys = book.add(
        rng,
        [f"key-n{first + number:05d}" for number in range(count)],
        [f"org-n{first + number:05d}" for number in range(count)],
        networks=networks,
        clients=everybodys if client is None else np.full((count, 1), client),
        templates=np.array([[scene.template()[0]] for _ in range(count)])
        if template is None
        else np.full((count, 1), template),
        output_mu=math.log(EXTRACTION_OUTPUT) - EXTRACTION_SD**2 / 2,
        models=np.full(count, int(rng.integers(MODELS))),
    )
    scene.take(keys, *links)
    guise = Guise() if rng.random() < 0.5 else extraction()
    return Registered(keys, tuple(links), guise, np.array(pool) if way == "rotating" else None)


def use(
    scene: Scene, keys: Sums, span: tuple[int, int], arrivals: Sums, per_day: float, guise: Guise,
    pool: Sums | None = None,
) -> list[Records]:  # fmt: skip
    """So many calls a day of each key from its arrival (buckets behind the start) on, round the clock or by day more.

    pool: networks of which each key has another one every day
    """
    rng = scene.rng
    first, last = span
    bucket = np.arange(last - first)
    swing, peak = rng.choice((0.0, 0.0, 0.6)), rng.uniform(0, PER_DAY)
    curve = 1 + swing * np.cos(2 * np.pi * (first + bucket - peak) / PER_DAY)
    pace: Floats = per_day / PER_DAY * rng.gamma(16, 1 / 16, (len(keys), 1))
    expected = np.where(bucket >= arrivals[:, None], pace * curve, 0.0)
    if pool is None:
        return scene.overlay(keys, first, expected, guise)
    parts: list[Records] = []
    for day in range(first // PER_DAY, -(-last // PER_DAY)):
        begin, end = max(first, day * PER_DAY), min(last, (day + 1) * PER_DAY)
        today = rng.choice(pool, len(keys))
        for network in np.unique(today).tolist():
            there = today == network
            part = expected[there, begin - first : end - first]
            parts += scene.overlay(keys[there], begin, part, replace(guise, network=network))
    return parts


def new_accounts(
    scene: Scene, family: str, row: str, *, days: tuple[float, float], most: int | None = None
) -> Campaign | None:
    """After the published campaigns: each account far below what a single one could be noticed by, or not so far."""
    rng = scene.rng
    per_day, low, high = PACES[int(rng.choice(len(PACES), p=(0.5, 0.25, 0.25)))]
    high = high if most is None else max(low, min(high, most))
    count = round(math.exp(rng.uniform(math.log(low), math.log(high))))
    way = str(rng.choice(WAYS))
    new = registered(scene, count, way)
    slow = rng.random() < 0.4
    first, last = window(scene, *days)
    over = min(10 * PER_DAY, (last - first) * 3 // 4) if slow else 6 * HOUR
    arrivals = rng.integers(0, over, count)
    arrivals[int(rng.integers(count))] = 0
    parts = use(scene, new.keys, (first, last), arrivals, per_day, new.guise, new.pool)
    who = Victims(new.keys, new.links, new.guise, way != "asn")
    pace = f"{per_day:g}/day by {way}" + (", over days" if slow else "")
    return campaign(scene, family, row, who, (first, last), parts, pace)


def respawn(scene: Scene, family: str, row: str) -> Campaign | None:
    """A cluster is blocked: its keys are refused for a while, then silent; others come with the same fingerprints."""
    rng = scene.rng
    who = victims(scene, 4, 25, fresh_share=0.0)
    if who is None:
        return None
    blocked = who.keys
    first = window(scene, 4.0, 6.0)[0]
    gone = np.zeros(len(scene.book), np.bool_)
    gone[blocked] = True
    scene.drop(lambda records: gone[records.key] & (records.bucket >= first))
    refused = int(rng.integers(HOUR // 6, 3 * HOUR))
    status = int(rng.choice(FORBIDDEN))
    tries = np.maximum(usual(scene, blocked), 0.4) * rng.uniform(1, 4)
    scene.overlay(blocked, first, np.repeat(tries, refused, axis=1), replace(who.guise, status=status))
    count = max(2, round(len(blocked) * rng.uniform(0.7, 1.5)))
    like = blocked[rng.integers(0, len(blocked), count)]
    book = scene.book
    start = len(book)
    keys = book.add(
        rng,
        [f"key-n{start + number:05d}" for number in range(count)],
        # an organisation is what gets blocked: the fingerprints stay
        [f"org-n{start + number:05d}" for number in range(count)],
        networks=book.networks[like],
        clients=book.clients[like],
        templates=book.templates[like],
        output_mu=float(book.output_mu[blocked].mean()),
        input_mu=float(book.input_mu[blocked].mean()),
        models=rng.integers(0, MODELS, count),
    )
    if rng.random() < 0.3:  # a standby pool that was tried out before
        trial = np.zeros((count, first - scene.first_day * PER_DAY))
        trial[np.arange(count), rng.integers(0, trial.shape[1], count)] = 2.0
        scene.overlay(keys, scene.first_day * PER_DAY, trial, Guise())
    begin = first + refused + int(rng.integers(HOUR, 18 * HOUR))
    span = (begin, scene.end)
    per_day = float(scene.world.usual[blocked].sum() * PER_DAY / count)
    parts = use(scene, keys, span, rng.integers(0, 6 * HOUR, count), per_day, Guise())
    links = _fingerprints(scene, keys)
    scene.take(keys, *links)
    label = campaign(scene, family, row, Victims(keys, links, Guise(), False), span, parts)
    return replace(label, also=scene.key_names(blocked))


def usual(scene: Scene, keys: Sums) -> Floats:
    """Mean calls per bucket of established keys, keys x 1."""
    return scene.world.usual[keys][:, None]


def _fingerprints(scene: Scene, keys: Sums) -> tuple[Link, ...]:
    """The templates and networks of new keys; clients are everybody's."""
    book, names = scene.book, scene.names
    found = [("template", names.templates[value]) for value in np.unique(book.templates[keys]).tolist() if value >= 0]
    found += [("network", names.networks[value]) for value in np.unique(book.networks[keys]).tolist() if value >= 0]
    return tuple(found)


def burst(scene: Scene, family: str, row: str) -> Campaign | None:
    """A probe: twelve thousand calls within one to three hours over some dozens of accounts, old or new."""
    rng = scene.rng
    first = window(scene, 4.0, 6.0)[0]
    length = int(rng.integers(HOUR, 3 * HOUR))
    span = (first, first + length)
    if rng.random() < 0.5:
        new = registered(scene, int(rng.integers(20, 61)), str(rng.choice(WAYS[:2])))
        who = Victims(new.keys, new.links, new.guise, True)
    else:
        found = victims(scene, 15, 60, fresh_share=0.6)
        if found is None:
            return None
        who = replace(found, guise=extraction_by(found.guise))
    expected = np.full((len(who.keys), length), BURST_CALLS / len(who.keys) / length)
    parts = scene.overlay(who.keys, first, expected, who.guise)
    return campaign(scene, family, row, who, span, parts, "flat")
