"""Campaigns of accounts that have a history: a part more on each, a change of model, calls at the same moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream.lab.worlds.campaigns.accounts import tokens_per_call
from stream.lab.worlds.campaigns.labels import Campaign, Link
from stream.lab.worlds.campaigns.records import OWN, Guise, Records
from stream.lab.worlds.campaigns.scene import HOUR, KINDS, Scene
from stream.lab.worlds.campaigns.sharing import NEW_MODEL
from stream.lab.worlds.draws import MODELS, Floats
from stream.lab.worlds.tally import PER_DAY
from stream.lab.worlds.world import Sums

MIXES = (0, 0, 1, 3, 10)
"""Innocents of the same trait for one member; 0: the whole group, if one has the size, however little some use."""
MIMIC_SHARE = 0.6
FRESH_SHARE = 0.25
"""Campaigns whose link came with them: an attacker's own client, template or network on accounts taken over."""
EXTRACTION_INPUT, EXTRACTION_OUTPUT = 900.0, 1600.0
"""Mean tokens of an extractor's call: a prompt, and as long an answer as can be had."""
EXTRACTION_SD = 0.3
EXTRACTION_LIMIT = 4096.0
AGENTS = ("python-httpx/0.28 batch", "aiohttp/3.12 pool", "Go-http-client/1.1 runner", "node-fetch/2.7 farm")
PIVOT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Victims:
    """Members, what they have in common, and how that shows in the calls that are added."""

    keys: Sums
    links: tuple[Link, ...]
    guise: Guise
    fresh: bool


def extraction(model: int | None = None) -> Guise:
    """An extractor's calls: one prompt, long answers, all alike."""
    return Guise(
        input_mu=math.log(EXTRACTION_INPUT) - EXTRACTION_SD**2 / 2,
        input_sd=EXTRACTION_SD,
        output_mu=math.log(EXTRACTION_OUTPUT) - EXTRACTION_SD**2 / 2,
        output_sd=EXTRACTION_SD,
        limit=EXTRACTION_LIMIT,
        model=model,
    )


def extraction_by(guise: Guise) -> Guise:
    """An extractor's calls with the traits of a guise."""
    return replace(extraction(), network=guise.network, client=guise.client, template=guise.template)


def victims(scene: Scene, low: int, high: int, *, fresh_share: float = FRESH_SHARE) -> Victims | None:
    """`low` to `high` members of a group of established keys, or of a link that is new."""
    rng = scene.rng
    high = min(high, max(low, scene.world.fit.size // 3))
    if rng.random() < fresh_share:
        return _of_a_new_link(scene, low, high)
    for kind in rng.permutation(KINDS).tolist():
        mix = int(rng.choice(MIXES))
        groups = scene.groups(kind)
        whole = [group for group in groups if low <= len(group.keys) <= high and not scene.taken[group.keys].any()]
        if mix == 0 and whole:
            group = whole[int(rng.integers(len(whole)))]
            keys = group.keys
        else:
            able = [group for group in groups if len(group.fit) >= low]
            if not able:
                continue
            group = able[int(rng.integers(len(able)))]
            count = int(np.clip(round(len(group.keys) / (1 + mix)), low, min(high, len(group.fit))))
            keys = np.sort(rng.permutation(group.fit)[:count])
        scene.take(keys, group.link)
        return Victims(keys, (group.link,), _shown(scene, group.link), False)
    return _of_a_new_link(scene, low, high) if fresh_share else None


def _shown(scene: Scene, link: Link) -> Guise:
    """Calls added to a member of an old group show its trait; what else they show is the key's own."""
    kind, value = link
    if kind == "network":
        return Guise(network=scene.names.networks.index(value))
    if kind == "client":
        return Guise(client=scene.names.clients.index(value))
    if kind == "template":
        return Guise(template=scene.names.templates.index(value))
    return OWN


def _of_a_new_link(scene: Scene, low: int, high: int) -> Victims | None:
    rng = scene.rng
    keys = np.sort(scene.strangers(round(math.exp(rng.uniform(math.log(low), math.log(high))))))
    if len(keys) < low:
        return None
    links: list[Link] = []
    network = client = template = None
    which = rng.integers(3)
    if which != 1:
        client, link = scene.client(f"{rng.choice(AGENTS)} {scene.seed}.{len(scene.names.clients)}")
        links.append(link)
    if which == 1:
        template, link = scene.template()
        links.append(link)
    if which == 2:
        network, link = scene.network(int(rng.choice(scene.names.network_asns)))
        links.append(link)
    scene.take(keys, *links)
    return Victims(keys, tuple(links), Guise(network=network, client=client, template=template), True)


def window(scene: Scene, low_days: float, high_days: float) -> tuple[int, int]:
    """First and last bucket of something that takes so many days and fits in the branch, a morning before it."""
    rng = scene.rng
    room = scene.last_day - scene.first_day - 0.75
    length = int(rng.uniform(min(low_days, room - 0.25), min(high_days, room)) * PER_DAY)
    earliest = scene.first_day * PER_DAY + PER_DAY // 4
    first = int(rng.integers(earliest, max(earliest + 1, scene.end - length - PER_DAY // 4)))
    return first, min(first + length, scene.end)


def campaign(
    scene: Scene, family: str, row: str, who: Victims, span: tuple[int, int], parts: list[Records], curve: str = ""
) -> Campaign:
    """The label of one that takes what is in `parts`."""
    return Campaign(
        family=family,
        row=row,
        benign=False,
        members=scene.key_names(who.keys),
        links=who.links,
        start=scene.time(span[0]),
        end=scene.time(span[1]),
        world_start=scene.start,
        curve=curve,
        fresh=who.fresh,
        heavy=scene.heavy(who.keys),
        extra=scene.extra(who.keys, parts),
    )


def uplift(
    scene: Scene, family: str, row: str, *, low: int, high: int, percents: Sequence[int], curves: Sequence[str],
    days: tuple[float, float] = (4.0, 6.0), fresh_share: float = FRESH_SHARE,
) -> Campaign | None:  # fmt: skip
    """A part of its usual use on top of every member's, for days."""
    rng = scene.rng
    who = victims(scene, low, high, fresh_share=fresh_share)
    if who is None:
        return None
    first, last = window(scene, *days)
    percent, curve = int(rng.choice(percents)), str(rng.choice(curves))
    expected = usual_calls(scene, who.keys, first, last, own=curve == "own") * percent / 100
    if curve == "ramp":
        expected *= np.minimum(np.arange(1, last - first + 1) / PER_DAY, 1.0)
    # members differ in how much they give
    expected *= rng.gamma(16, 1 / 16, (len(who.keys), 1))
    guise = who.guise
    if rng.random() >= MIMIC_SHARE:
        guise = extraction_by(guise)
        expected *= per_extraction(scene, who.keys)
    parts = scene.overlay(who.keys, first, expected, guise)
    return campaign(scene, family, row, who, (first, last), parts, curve)


def usual_calls(scene: Scene, keys: Sums, first: int, last: int, *, own: bool) -> Floats:
    """Expected calls of keys (keys x buckets): along their own days, or flat at their mean of the history."""
    if own:
        return scene.level(keys, first, last)
    return np.repeat(scene.world.usual[keys][:, None], last - first, axis=1)


def per_extraction(scene: Scene, keys: Sums) -> Floats:
    """How many of an extractor's calls take as much as one of a key's own: keys x 1."""
    inputs, outputs = tokens_per_call(scene.book, keys)
    return np.asarray((inputs + outputs) / (EXTRACTION_INPUT + EXTRACTION_OUTPUT))[:, None]


def relay(scene: Scene, family: str, row: str) -> Campaign | None:
    """Resellers: an extractor's calls among those of honest users of a few accounts, by one template and client."""
    rng = scene.rng
    keys = np.sort(scene.strangers(int(rng.integers(4, 16))))
    if len(keys) < 4:
        return None
    template, by_template = scene.template()
    client, by_client = scene.client(f"{rng.choice(AGENTS)} relay {len(scene.names.clients)}")
    links = (by_template, by_client)
    scene.take(keys, *links)
    first, last = window(scene, 4.0, 6.0)
    expected = usual_calls(scene, keys, first, last, own=bool(rng.random() < 0.5)) * rng.uniform(0.3, 1.0)
    expected *= per_extraction(scene, keys)
    who = Victims(keys, links, replace(extraction(), client=client, template=template), True)
    return campaign(scene, family, row, who, (first, last), scene.overlay(keys, first, expected, who.guise), "own")


def synchronized(scene: Scene, family: str, row: str) -> Campaign | None:
    """A scheduler drives all members: a fifth to four fifths more, all of it within the same minutes."""
    rng = scene.rng
    who = victims(scene, 10, 60, fresh_share=0.4)
    if who is None:
        return None
    first, last = window(scene, 3.0, 5.0)
    every = int(rng.choice((1, 2, 4, 8)) * HOUR)
    beats = (np.arange(last - first) % every) == int(rng.integers(every))
    percent = rng.uniform(0.2, 0.8)
    expected = scene.world.usual[who.keys][:, None] * percent * every * beats
    parts = scene.overlay(who.keys, first, expected, who.guise)
    return campaign(scene, family, row, who, (first, last), parts, "beats")


def pivot(scene: Scene, family: str, row: str) -> Campaign | None:
    """Within a day all members send half of their calls to another model; their total stays what it was."""
    rng = scene.rng
    who = victims(scene, 6, 80, fresh_share=0.0)
    if who is None:
        return None
    first = window(scene, 4.0, 6.0)[0]
    usual = scene.book.mix[who.keys].mean(axis=(0, 1))
    shares = np.diff(usual, prepend=0.0)
    target = NEW_MODEL if rng.random() < 0.5 else int(np.argmin(shares[:MODELS]))
    member = np.zeros(len(scene.book), np.bool_)
    member[who.keys] = True
    parts: list[Records] = []

    def edit(records: Records) -> None:
        share = PIVOT_SHARE * np.clip((records.bucket - first) / PER_DAY, 0.0, 1.0)
        moves = member[records.key] & (rng.random(len(records)) < share) & (records.model != target)
        records.model[moves] = target
        parts.append(records.where(moves))

    scene.change(first, edit)
    return campaign(scene, family, row, who, (first, scene.end), parts)
