"""A rehearsal: a scenario's attack laid over recorded calls, to see whether it would have been found among them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stream.alerts import Alert, rfc3339
from stream.events import Call
from stream.gateways.errors import InputError, guess
from stream.gateways.overdraw import parse
from stream.lab.scenarios import LEAD_IN, MAX_EXTRA_CALLS_PER_SECOND, STRANGER_TOKENS, Attack, scenarios

REFUSED = {
    "calm": "it holds no attack",
    "campaign": "its keys have to share an organisation, a network and a client, which those of a recording need not",
    "pivot": "it would change recorded calls, and an injection only adds some",
    "respawn": "it would take recorded calls away, and an injection only adds some",
    "class": "it is no attack",
    "launch": "it is no attack",
    "mixed": "it is several attacks at once: inject them one by one",
}
"""Scenarios that make no sense on traffic that is not ours, and why."""
INJECTABLE = tuple(name for name in scenarios() if name not in REFUSED)
LEAST_DAYS = 3.0
"""A shorter recording has no day that a baseline could be learned from before the attack."""
LEAST_HOURS = 24
"""Hours of use that a key needs before it counts as known."""
MOST_KEYS = 20_000
"""Keys that may be chosen, each with some of its calls: those that are seen first."""
FEW = 3
"""Among so many keys at least the seed chooses, if there are: another seed shall show another one."""
MOST_NAMED = 20
STRANGER_ADDRESS = "2001:db8:b000::1"
STRANGER_ASN = 64_500
STRANGER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) Chrome/138.0.0.0 overdraw-injected"
STRANGER_TEMPLATE = "overdraw-injected"
NEW_KEY = "overdraw-injected-"
ARRIVAL_SECONDS = 21_600.0

Chunk = Sequence[tuple[int, bytes]]


@dataclass(slots=True)
class Known:
    """What a recording holds of a key. `hours`: hours of use; `by_hour`: records by hour of the day, in UTC."""

    first: float
    last: float
    records: int = 0
    tokens: int = 0
    hours: int = 0
    last_hour: int = -1
    by_hour: list[int] = field(default_factory=lambda: [0] * 24)
    samples: list[Call] = field(default_factory=list)
    """Its first record, second, fourth, eighth and so on."""


class Survey:
    """One pass over the records: their span in epoch seconds, and their keys; `now`: the latest that counts."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.first, self.last = float("inf"), float("-inf")
        self.keys: dict[str, Known] = {}
        self.models: Counter[str] = Counter()

    def take(self, values: Sequence[bytes]) -> None:
        """Look at raw records."""
        arrivals, _ = parse([(i, value, self.now) for i, value in enumerate(values)])
        for _, time, call in arrivals:
            if time > self.now:
                continue
            self.first, self.last = min(self.first, time), max(self.last, time)
            known = self.keys.get(call.key_id)
            if known is None:
                if len(self.keys) >= MOST_KEYS:
                    continue
                known = self.keys[call.key_id] = Known(time, time)
            known.first, known.last = min(known.first, time), max(known.last, time)
            known.records += 1
            known.tokens += (call.input_tokens or 0) + (call.output_tokens or 0)
            hour = int(time // 3600)
            known.by_hour[hour % 24] += 1
            if hour != known.last_hour:
                known.hours, known.last_hour = known.hours + 1, hour
            if known.records & (known.records - 1) == 0:
                known.samples.append(call)
            if call.model is not None and known.records == 1:
                self.models[call.model] += 1


@dataclass(frozen=True, slots=True)
class Injection:
    """An attack to be mixed in. `calls`: (event time in epoch seconds, tokens, JSON), in time order."""

    scenario: str
    seed: int
    keys: tuple[str, ...]
    since: float
    until: float
    calls: tuple[tuple[float, int, bytes], ...]

    @property
    def tokens(self) -> int:
        """Tokens of the attack."""
        return sum(tokens for _, tokens, _ in self.calls)


def check(name: str) -> None:
    """Raises InputError on a scenario that is not known, or makes no sense here."""
    if name in REFUSED:
        raise InputError(f"--inject {name}: {REFUSED[name]}. There are {', '.join(INJECTABLE)}")
    if name not in INJECTABLE:
        raise InputError(
            f"--inject {name}: there is no such scenario. {guess(name, INJECTABLE)}There are {', '.join(INJECTABLE)}"
        )


def plan(name: str, survey: Survey, seed: int) -> Injection:
    """The attack of a scenario on one key of the recording, or by new ones; same recording and seed, same attack.

    Raises InputError if the recording is too short, or no key is known well enough.
    """
    check(name)
    days = (survey.last - survey.first) / 86_400 if survey.keys else 0.0
    if days < LEAST_DAYS:
        raise InputError(f"--inject needs {LEAST_DAYS:g} days of calls to learn from, and these span {days:.1f}")
    attack = scenarios()[name].attacks[0]
    rng = random.Random(f"{seed} {name}")
    length = min(attack.hours * 3600, (1 - LEAD_IN) * days * 86_400)
    since = float(int(rng.uniform(survey.first + LEAD_IN * days * 86_400, survey.last - length)))
    until = since + length
    if attack.accounts:
        keys, calls = _accounts(attack, survey, rng, since, until)
    else:
        key_id = _victim(attack, survey, rng, since, until)
        keys, calls = (key_id,), _on(key_id, attack, survey, rng, since, until)
    encoded = []
    for number, (time, call) in enumerate(sorted(calls, key=lambda item: (item[0], item[1].key_id))):
        call.event_id, call.time = f"{NEW_KEY}{seed}-{number}", time
        tokens = (call.input_tokens or 0) + (call.output_tokens or 0)
        encoded.append((time, tokens, msgspec.json.encode(call)))
    return Injection(name, seed, keys, since, until, tuple(encoded))


def _victim(attack: Attack, survey: Survey, rng: random.Random, since: float, until: float) -> str:
    """A key that was there well before, is used to the end of the attack, and by whose use the attack matters."""
    early, late = survey.first + (since - survey.first) / 2, until - (until - since) / 4

    def fits(known: Known) -> bool:
        return known.first <= early and known.last >= late and known.hours >= LEAST_HOURS and known.tokens > 0

    fit = [key_id for key_id, known in sorted(survey.keys.items()) if fits(known)]
    if not fit:
        raise InputError(
            f"--inject: no key was used in {LEAST_HOURS} hours, from long before the attack into its end, with tokens"
        )
    seconds = until - since
    floor = _floor(attack, seconds)
    enough = [k for k in fit if (attack.times - 1) * _usual(survey.keys[k]) * seconds >= floor]
    largest = sorted(fit, key=lambda k: (-_usual(survey.keys[k]), k))
    return rng.choice(enough if len(enough) >= FEW else largest[: max(FEW, len(fit) // 10)])


def _usual(known: Known) -> float:
    """Tokens per second, on the mean."""
    return known.tokens / max(known.last - known.first, 3600.0)


def _floor(attack: Attack, seconds: float) -> float:
    """Tokens below which nobody would care; those of the scenario are per day, or in all if it is shorter than one."""
    return attack.floor_tokens * max(seconds / 86_400, min(1.0, seconds / (attack.hours * 3600)))


def _on(
    key_id: str, attack: Attack, survey: Survey, rng: random.Random, since: float, until: float
) -> list[tuple[float, Call]]:
    known, seconds = survey.keys[key_id], until - since
    mimic = rng.random() < attack.mimic
    wanted = max((attack.times - 1) * _usual(known) * seconds, _floor(attack, seconds))
    told = [call for call in known.samples if (call.input_tokens or 0) + (call.output_tokens or 0)]
    mimic = mimic and bool(told)
    each = known.tokens / known.records if mimic else sum(STRANGER_TOKENS)
    count = max(1, round(min(wanted / each, MAX_EXTRA_CALLS_PER_SECOND * seconds)))
    most = max(known.by_hour) or 1
    calls: list[tuple[float, Call]] = []
    while len(calls) < count:
        time = rng.uniform(since, until)
        if attack.curve == "own" and rng.random() * most > known.by_hour[int(time // 3600) % 24] + 1e-3 * most:
            continue
        sample = rng.choice(told or known.samples)
        calls.append((time, msgspec.structs.replace(sample, period_seconds=None) if mimic else _stranger(sample, rng)))
    return calls


def _stranger(like: Call, rng: random.Random) -> Call:
    """A call that copies nothing of the key but who it is and what it asks."""
    mean_in, mean_out = STRANGER_TOKENS
    tokens = (like.input_tokens or 0) + (like.output_tokens or 0)
    # at the price of the key's own tokens: without one the excess would look cheap beside the others'
    cost = like.cost_usd / tokens * (mean_in + mean_out) if like.cost_usd and tokens else None
    return Call(
        event_id="-", time=0.0, key_id=like.key_id, org_id=like.org_id, model=like.model,
        input_tokens=int(rng.gammavariate(16, mean_in / 16)) + 1,
        output_tokens=min(int(rng.gammavariate(9, mean_out / 9)) + 1, 4096), max_output_tokens=4096, status=200,
        client_ip=STRANGER_ADDRESS, asn=STRANGER_ASN, user_agent=STRANGER_AGENT, prompt_fingerprint=STRANGER_TEMPLATE,
        cost_usd=cost,
    )  # fmt: skip


def _accounts(
    attack: Attack, survey: Survey, rng: random.Random, since: float, until: float
) -> tuple[tuple[str, ...], list[tuple[float, Call]]]:
    model = min(survey.models, key=lambda m: (-survey.models[m], m), default=None)
    keys, calls = [], []
    for number in range(attack.accounts):
        key_id = f"{NEW_KEY}{number:05d}"
        keys.append(key_id)
        begin = since + (rng.uniform(0, min(ARRIVAL_SECONDS, (until - since) / 4)) if number else 0.0)
        like = Call(event_id="-", time=0.0, key_id=key_id, org_id=f"{NEW_KEY}org-{number:05d}", model=model)
        rate = attack.calls_per_day / 86_400 * rng.gammavariate(16, 1 / 16)
        time = begin
        while time < until:
            calls.append((time, _stranger(like, rng)))
            time += rng.expovariate(rate)
    return tuple(keys), calls


class Mixer:
    """Puts the calls of an attack among recorded ones, before the first that is later."""

    def __init__(self, injection: Injection, now: float) -> None:
        self.injection, self.now = injection, now
        self.placed = 0

    def mix(self, chunk: Chunk) -> list[tuple[int, bytes]]:
        """The chunk with what is due among it, which has the line number of the record before which it stands."""
        calls, mixed = self.injection.calls, []
        if self.placed == len(calls):
            return list(chunk)
        arrivals, _ = parse([(i, value, self.now) for i, (_, value) in enumerate(chunk)])
        times = {position: time for position, time, _ in reversed(arrivals)}
        for i, (line, value) in enumerate(chunk):
            time = times.get(i, float("-inf"))
            while time <= self.now and self.placed < len(calls) and calls[self.placed][0] < time:
                mixed.append((line, calls[self.placed][2]))
                self.placed += 1
            mixed.append((line, value))
        return mixed


def outcome(injection: Injection, alerts: Iterable[Alert], slack_seconds: float) -> dict[str, Any]:
    """What became of the attack, as JSON: whether an incident opened on it, how soon, and what was gone before.

    slack_seconds: so long after its end an incident still counts as found in it: a bucket, and the lateness
    """
    struck = set(injection.keys)
    by_id: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_id.setdefault(alert.alert_id, []).append(alert)
    hits, before = [], False
    for steps in by_id.values():
        opened = min(steps, key=lambda alert: alert.sequence)
        ended = max(steps, key=lambda alert: alert.sequence).resolved_at
        if not _about(steps, struck):
            continue
        if injection.since <= opened.detected_at <= injection.until + slack_seconds:
            hits.append(opened)
        elif opened.detected_at < injection.since and (ended is None or ended > injection.since):
            before = True
    first = min(hits, key=lambda alert: (alert.detected_at, alert.alert_id), default=None)
    said: dict[str, Any] = {
        "scenario": injection.scenario,
        "seed": injection.seed,
        "keys": list(injection.keys[:MOST_NAMED]),
        "key_count": len(injection.keys),
        "since": rfc3339(injection.since),
        "until": rfc3339(injection.until),
        "calls": len(injection.calls),
        "tokens": injection.tokens,
        "found": first is not None,
        "open_before": before,
    }
    if first is not None:
        gone = sum(tokens for time, tokens, _ in injection.calls if time <= first.detected_at)
        said |= {
            "alert_id": first.alert_id, "kind": first.kind, "severity": first.severity,
            "found_at": rfc3339(first.detected_at), "seconds_to_alert": first.detected_at - injection.since,
            "tokens_before_alert": gone,
        }  # fmt: skip
    return said


def _about(steps: Sequence[Alert], struck: set[str]) -> bool:
    """Whether an incident is one of the attack: of its key, or of a group of which most that are named are its keys."""
    for alert in steps:
        if alert.entity.type == "key":
            if alert.entity.id in struck:
                return True
        elif alert.members is not None and alert.members.top:
            named = sum(member.key_id in struck for member in alert.members.top)
            if 2 * named > len(alert.members.top):
                return True
    return False


def words(said: dict[str, Any]) -> list[str]:
    """The outcome in two sentences; ids are as they came."""
    from stream.alerts import printable
    from stream.core.explain import short, span

    who = f"key {printable(said['keys'][0])}" if said["key_count"] == 1 else f"{said['key_count']:,} new keys"
    lines = [
        f"injected {said['scenario']} (seed {said['seed']}) on {who}, {said['since']} to {said['until']}: "
        f"{said['calls']:,} calls, {short(said['tokens'])} tokens"
    ]
    if said["found"]:
        lines.append(
            f"found after {span(said['seconds_to_alert'])} as {said['kind']} ({said['severity']}); "
            f"{short(said['tokens_before_alert'])} tokens were gone by then"
        )
    elif said["open_before"]:
        lines.append("no incident of its own: one was open already when it began; another --seed may show more")
    else:
        lines.append("not found: no incident opened on it in that time")
    return lines
