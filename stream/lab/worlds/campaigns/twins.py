"""Benign twins: what looks like a campaign and is none. None of them may page."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from stream.lab.worlds.campaigns.established import window
from stream.lab.worlds.campaigns.labels import Campaign, Extra, Link
from stream.lab.worlds.campaigns.newcomers import use
from stream.lab.worlds.campaigns.records import OWN, Guise, Records
from stream.lab.worlds.campaigns.scene import HOUR, Group, Scene
from stream.lab.worlds.campaigns.sharing import NEW_MODEL
from stream.lab.worlds.draws import MODELS, Floats
from stream.lab.worlds.tally import PER_DAY
from stream.lab.worlds.world import Sums

_NOTHING = Extra(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


def twin(scene: Scene, family: str, keys: Sums, links: tuple[Link, ...], span: tuple[int, int]) -> Campaign:
    """The label of something that nobody is to blame for."""
    scene.take(keys, *links)
    return Campaign(
        family=family,
        row=family,
        benign=True,
        members=scene.key_names(keys),
        links=links,
        start=scene.time(span[0]),
        end=scene.time(min(span[1], scene.end)),
        world_start=scene.start,
        curve="",
        fresh=False,
        heavy=scene.heavy(keys),
        extra=_NOTHING,
    )


def _organisation(scene: Scene, least: int) -> Group | None:
    """One of the organisations with so many keys that are used."""
    groups = [group for group in scene.groups("org") if len(group.fit) >= least]
    return groups[int(scene.rng.integers(len(groups)))] if groups else None


def launch(scene: Scene) -> Campaign | None:
    """An organisation's product is launched: all its keys rise two- to sixfold, along their own days, and stay up."""
    group = _organisation(scene, 4)
    if group is None:
        return None
    first, last = window(scene, 4.0, 6.0)
    risen = np.minimum(np.arange(1, last - first + 1) / (6 * HOUR), 1.0) * scene.rng.uniform(1.0, 5.0)
    scene.overlay(group.keys, first, scene.level(group.keys, first, last) * risen, OWN)
    return twin(scene, "launch", group.keys, (group.link,), (first, last))


def class_enrols(scene: Scene) -> Campaign | None:
    """A course begins: accounts of students, made within two days, used by day and little, on the campus's network."""
    rng, book = scene.rng, scene.book
    count = round(math.exp(rng.uniform(math.log(30), math.log(300))))
    network, link = scene.network(int(rng.choice(scene.names.network_asns)))
    template, prompt = scene.template()
    first, last = window(scene, 4.0, 6.0)
    keys = _joining(scene, count, np.full((count, 1), network), template, f"org-class{len(book)}")
    arrivals = rng.integers(0, 2 * PER_DAY, count)
    daily = _by_day(scene, first, last, width=4.0)
    pace = rng.gamma(1.5, rng.uniform(4, 14) / 1.5, (count, 1)) / PER_DAY
    scene.overlay(keys, first, np.where(np.arange(last - first) >= arrivals[:, None], pace * daily, 0.0), OWN)
    return twin(scene, "class", keys, (link, prompt, ("org", book.org_ids[int(keys[0])])), (first, last))


def _joining(scene: Scene, count: int, networks: Sums, template: int, org: str) -> Sums:
    """New accounts of one organisation, with a client or three and one template."""
    rng, book = scene.rng, scene.book
    start = len(book)
    clients = rng.choice(rng.integers(0, len(scene.world.names.clients), int(rng.integers(1, 4))), (count, 1))
    return book.add(
        rng, [f"key-n{start + number:05d}" for number in range(count)], [org] * count, networks=networks,
        clients=clients, templates=np.full((count, 1), template), output_mu=float(rng.uniform(4.8, 6.2)),
        models=np.full(count, int(rng.integers(MODELS))),
    )  # fmt: skip


def _by_day(scene: Scene, first: int, last: int, width: float) -> Floats:
    """A hill a day, `width` its standard deviation in hours, the mean about one."""
    peak = scene.rng.uniform(0, 24)
    apart = (np.arange(first, last) / HOUR - peak + 12) % 24 - 12
    hill = np.exp(-((apart / width) ** 2) / 2)
    return np.asarray(hill * 24 / (width * math.sqrt(2 * math.pi)))


def vendor(scene: Scene) -> Campaign | None:
    """A labelling vendor begins a job: 15 to 60 accounts on one network and template, steady, in shifts."""
    rng, book = scene.rng, scene.book
    count = int(rng.integers(15, 61))
    network, link = scene.network(int(rng.choice(scene.names.network_asns)))
    template, prompt = scene.template()
    first, last = window(scene, 4.0, 6.0)
    keys = _joining(scene, count, np.full((count, 1), network), template, f"org-vendor{len(book)}")
    hours = (np.arange(first, last) / HOUR) % 24
    shift = np.array([0.0, 8.0, 16.0])[rng.integers(0, 3, count)]
    works = (hours - shift[:, None]) % 24 < 8
    pace = rng.uniform(6, 30) / HOUR * rng.gamma(20, 1 / 20, (count, 1))
    scene.overlay(keys, first, works * pace, OWN)
    return twin(scene, "vendor", keys, (link, prompt, ("org", book.org_ids[int(keys[0])])), (first, last))


def sdk_update(scene: Scene) -> Campaign | None:
    """A library has a new version: within days everybody who uses it is seen with a fingerprint that nobody had."""
    groups = [group for group in scene.groups("client") if len(group.keys) >= 10]
    if not groups:
        return None
    group = groups[int(scene.rng.integers(len(groups)))]
    old = scene.names.clients.index(group.link[1])
    new, link = scene.client(f"openai-python/2.{len(scene.names.clients)}.0")
    first, last = window(scene, 4.0, 6.0)
    adopts = first + scene.rng.integers(0, last - first, len(scene.book))

    def edit(records: Records) -> None:
        records.client[(records.client == old) & (records.bucket >= adopts[records.key])] = new

    scene.change(first, edit)
    return twin(scene, "sdk update", group.keys, (group.link, link), (first, last))


def flash_crowd(scene: Scene) -> Campaign | None:
    """Everybody is up by a third to three times for some hours: a piece of news, or a rival's outage."""
    rng = scene.rng
    first = window(scene, 4.0, 6.0)[0]
    last = min(first + int(rng.integers(2 * HOUR, 9 * HOUR)), scene.end)
    keys = np.flatnonzero(scene.world.born == 0)
    drawn_in = keys[rng.random(len(keys)) < rng.uniform(0.6, 1.0)]
    hill = np.sin(np.pi * (np.arange(last - first) + 0.5) / (last - first)) ** 0.5
    more = rng.uniform(0.3, 2.0) * rng.gamma(8, 1 / 8, (len(drawn_in), 1)) * hill
    scene.overlay(drawn_in, first, scene.level(drawn_in, first, last) * more, OWN)
    return twin(scene, "flash crowd", keys[:0], (), (first, last))


def release(scene: Scene) -> Campaign | None:
    """A model is released: within a week a third to two thirds of the organisations send it most of their calls."""
    rng = scene.rng
    first = window(scene, 6.0, 7.0)[0]
    orgs = scene.traits("org")
    adopting = {org for org in sorted(set(orgs)) if rng.random() < rng.uniform(0.3, 0.7)}
    keys = np.flatnonzero(np.isin(orgs, sorted(adopting)))
    begins = np.full(len(scene.book), np.iinfo(np.int64).max)
    of_org = {org: first + int(rng.integers(0, 5 * PER_DAY)) for org in sorted(adopting)}
    begins[keys] = [of_org[org] for org in orgs[keys]]
    takes = np.zeros(len(scene.book))
    takes[keys] = rng.uniform(1.0, 4.0, len(keys)) * PER_DAY
    wanted = rng.uniform(0.4, 0.95, len(scene.book))

    def edit(records: Records) -> None:
        since = np.maximum(records.bucket - begins[records.key].astype(np.float64), 0.0)
        share = wanted[records.key] * np.minimum(since / np.maximum(takes[records.key], 1.0), 1.0)
        records.model[rng.random(len(records)) < share] = NEW_MODEL

    scene.change(first, edit)
    return twin(scene, "release", keys[:0], (("model", scene.names.models[NEW_MODEL]),), (first, scene.end))


def onboarding(scene: Scene) -> Campaign | None:
    """A company comes aboard: accounts for its people, some more every day, used at work."""
    rng, book = scene.rng, scene.book
    count = int(rng.integers(20, 121))
    asn = int(rng.choice(scene.names.network_asns))
    pool = [scene.network(asn) for _ in range(int(rng.integers(1, 4)))]
    template, prompt = scene.template()
    first, last = window(scene, 6.0, 12.0)
    networks = rng.choice([number for number, _ in pool], (count, 1))
    keys = _joining(scene, count, networks, template, f"org-company{len(book)}")
    arrivals = np.sort(rng.integers(0, last - first, count))
    pace = rng.gamma(1.2, rng.uniform(15, 60) / 1.2, (count, 1)) / PER_DAY
    daily = _by_day(scene, first, last, width=3.0)
    scene.overlay(keys, first, np.where(np.arange(last - first) >= arrivals[:, None], pace * daily, 0.0), OWN)
    links = (("org", book.org_ids[int(keys[0])]), prompt, *(link for _, link in pool))
    return twin(scene, "onboarding", keys, links, (first, last))


def nat_change(scene: Scene) -> Campaign | None:
    """An organisation moves to another provider: from one hour to the next all its keys have another network."""
    group = _organisation(scene, 3)
    if group is None:
        return None
    network, link = scene.network(int(scene.rng.choice(scene.names.network_asns)))
    first, last = window(scene, 3.0, 5.0)
    moves = np.zeros(len(scene.book), np.bool_)
    moves[group.keys] = True

    def edit(records: Records) -> None:
        records.network[moves[records.key] & (records.bucket >= first)] = network

    scene.change(first, edit)
    return twin(scene, "nat change", group.keys, (group.link, link), (first, last))


def rotation(scene: Scene) -> Campaign | None:
    """An organisation changes its keys: the old ones are refused for a little while, new ones go on where they were."""
    rng, book = scene.rng, scene.book
    group = _organisation(scene, 3)
    if group is None:
        return None
    first, last = window(scene, 3.0, 5.0)
    gone = np.zeros(len(book), np.bool_)
    gone[group.keys] = True
    scene.drop(lambda records: gone[records.key] & (records.bucket >= first))
    tries = np.repeat(scene.world.usual[group.keys][:, None], HOUR // 2, axis=1)
    scene.overlay(group.keys, first, tries, Guise(status=401))
    parts: list[Records] = []
    start = len(book)
    for number, key in enumerate(group.keys.tolist()):
        one = slice(key, key + 1)
        heir = book.add(
            rng, [f"key-n{start + number:05d}"], [book.org_ids[key]], networks=book.networks[one],
            clients=book.clients[one], templates=book.templates[one], output_mu=float(book.output_mu[key]),
            input_mu=float(book.input_mu[key]), models=rng.integers(0, MODELS, 1),
        )  # fmt: skip
        per_day = float(scene.world.usual[key] * PER_DAY)
        parts += use(scene, heir, (first, scene.end), np.zeros(1, np.int64), per_day, OWN)
    keys = np.concatenate([group.keys, np.arange(start, len(book))])
    return twin(scene, "rotation", keys, (group.link,), (first, last))


TWINS: dict[str, Callable[[Scene], Campaign | None]] = {
    "launch": launch,
    "class": class_enrols,
    "vendor": vendor,
    "sdk update": sdk_update,
    "flash crowd": flash_crowd,
    "release": release,
    "onboarding": onboarding,
    "nat change": nat_change,
    "rotation": rotation,
}
"""What looks like a campaign, by its name."""
