"""The extraction ledger: what incidents have taken, folded from alerts. Pure: no clock, no I/O.

The alert topic is exact over crashes, and each alert holds its incident's sums so far: so the alert with the highest
sequence of each incident is all that there is to know of it, in whatever order they come, and however often.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stream.alerts import Alert, Entity, Member
from stream.prices import Part, Prices

MAX_INCIDENTS = 500_000
"""Some 800 bytes each."""
GATEWAY_CURRENCY = "USD"
"""That of a call's `cost_usd`."""


class LedgerFullError(Exception):
    """There are more incidents than are held at once."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Tokens above the baseline and what they cost; None: not known. All calls of the incidents, where known.

    low, high: 90 % interval of `excess`; cached_input is part of input, reasoning of output; unpriced: tokens that
    `cost` does not contain; cost_low, cost_high: at the ends of the interval of the tokens
    """

    calls: int | None
    excess: float
    low: float | None
    high: float | None
    input: float | None
    cached_input: float | None
    output: float
    reasoning: float | None
    cost: float | None = None
    cost_low: float | None = None
    cost_high: float | None = None
    unpriced: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One incident as its last alert tells it. Times are epoch seconds; `models` are shares by `model_id_of`.

    since: from when on its excess counts; until: its end, or the last that is known of it
    members: of a group, tokens above the baseline of the keys that its alert names
    counted: share of its tokens that enters totals, for no other entry holds them (`count_once`)
    within: alert_id of an entry that holds the others, if any
    """

    alert_id: str
    sequence: int
    fingerprint: str
    entity: Entity
    kind: str
    severity: str
    open: bool
    started: float
    since: float
    until: float
    sums: Sums
    cost_usd: float | None
    models: tuple[tuple[str, float], ...]
    members: tuple[Member, ...]
    traits: tuple[tuple[str, str], ...]
    counted: float = 1.0
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Entries of one entity, or a single one, in the order of their start; `sums` are over all of them."""

    entity: Entity
    entries: tuple[Entry, ...]
    sums: Sums

    @property
    def open(self) -> bool:
        """Whether one of them is."""
        return any(entry.open for entry in self.entries)

    @property
    def since(self) -> float:
        """From when on tokens count."""
        return min(entry.since for entry in self.entries)

    @property
    def until(self) -> float:
        """Up to when."""
        return max(entry.until for entry in self.entries)

    @property
    def counted(self) -> float:
        """Tokens that enter totals."""
        return sum(entry.counted * entry.sums.excess for entry in self.entries)


def entry_of(alert: Alert) -> Entry | None:
    """What an alert says of its incident; None of one that is about the detector itself."""
    if alert.kind == "feed":
        return None
    members = alert.members
    return Entry(
        alert_id=alert.alert_id,
        sequence=alert.sequence,
        fingerprint=alert.fingerprint,
        entity=alert.entity,
        kind=alert.kind,
        severity=alert.severity,
        open=alert.status != "resolved",
        started=alert.started_at,
        since=alert.started_at if alert.excess_since is None else alert.excess_since,
        until=alert.window.end if alert.resolved_at is None else alert.resolved_at,
        sums=Sums(
            alert.calls, alert.excess_tokens, alert.excess_low, alert.excess_high, alert.excess_input_tokens,
            alert.excess_cached_input_tokens, alert.excess_output_tokens, alert.excess_reasoning_tokens,
        ),
        cost_usd=alert.excess_cost_usd,
        models=tuple((model.id, model.share) for model in alert.models),
        members=() if members is None else tuple(members.top),
        traits=() if members is None else tuple(sorted(members.shared_traits.items())),
    )  # fmt: skip


class Ledger:
    """A fold over alerts: `take` them in any order, as often as they come, then ask for `entries`."""

    def __init__(self, most: int = MAX_INCIDENTS) -> None:
        self._most = most
        self._entries: dict[str, Entry] = {}

    def take(self, alert: Alert) -> None:
        """Take an alert up; raises LedgerFullError if it is of one incident too many."""
        entry = entry_of(alert)
        if entry is None:
            return
        known = self._entries.get(entry.alert_id)
        if known is None and len(self._entries) >= self._most:
            raise LedgerFullError(f"there are more than {self._most:,} incidents")
        # alert_id and sequence are unique; should they not be, the order of reading must not decide
        if known is None or (entry.sequence, repr(entry)) > (known.sequence, repr(known)):
            self._entries[entry.alert_id] = entry

    def entries(
        self, *, key: str | None = None, org: str | None = None, since: float = -math.inf, until: float = math.inf
    ) -> list[Entry]:
        """Incidents that overlap the time from `since` to `until`, each whole, in the order of their start.

        key: only this key's, and its part of groups that name it. org: only groups about this organisation, and the
        keys that they name: alerts of keys do not tell whose they are.
        """
        chosen = [e for e in self._entries.values() if e.started < until and (e.open or e.until > since)]
        if org is not None:
            groups = [e for e in chosen if (e.entity.type, e.entity.id) == ("org", org) or ("org", org) in e.traits]
            named = {member.key_id for group in groups for member in group.members}
            chosen = groups + [e for e in chosen if e.entity.type == "key" and e.entity.id in named]
        if key is not None:
            chosen = [part for e in chosen if (part := _part_of(e, key)) is not None]
        return sorted(count_once(chosen), key=lambda e: (e.since, e.alert_id))


def _part_of(entry: Entry, key: str) -> Entry | None:
    """What an entry says of one key; None: nothing."""
    if entry.entity.type == "key":
        return entry if entry.entity.id == key else None
    member = next((member for member in entry.members if member.key_id == key), None)
    if member is None:
        return None
    # its parts are not told: they are taken to be those of the whole group
    whole = entry.sums.excess
    share = member.excess_tokens / whole if whole > 0 else 0.0
    sums = replace(_times(entry.sums, share), calls=None, excess=member.excess_tokens, low=None, high=None)
    if member.excess_output_tokens is not None:
        output = member.excess_output_tokens
        sums = replace(sums, output=output, input=max(0.0, sums.excess - output), cached_input=None, reasoning=None)
    cost = None if entry.cost_usd is None else entry.cost_usd * share
    return replace(entry, entity=Entity(type="key", id=key), sums=sums, cost_usd=cost, members=(member,))


@dataclass(slots=True)
class _Claim:
    """Tokens of a key that are counted: by which entry, when, and how many no other entry has laid hands on."""

    entry: Entry
    left: float


def count_once(entries: Iterable[Entry]) -> list[Entry]:
    """The entries with `counted` and `within` worked out: tokens of a key that two of them hold at a time count once.

    Groups go first, then what is larger. A later entry counts without what an earlier one that overlaps it says of the
    same keys, up to what either says. What a group's alert does not name of its keys cannot be told apart.
    """
    claims: dict[str, list[_Claim]] = defaultdict(list)
    done = []
    for entry in sorted(entries, key=lambda e: (not _is_group(e), -e.sums.excess, e.alert_id)):
        twice, within, most = 0.0, None, 0.0
        for key, tokens in _keys_of(entry).items():
            left = tokens
            for claim in claims[key]:
                shared = min(left, claim.left) if _overlap(claim.entry, entry) else 0.0
                claim.left -= shared
                left -= shared
                if shared > most:
                    most, within = shared, claim.entry.alert_id
            twice += tokens - left
            claims[key].append(_Claim(entry, left))
        excess = entry.sums.excess
        counted = max(0.0, 1.0 - twice / excess) if excess > 0 else 1.0
        done.append(replace(entry, counted=counted, within=within))
    return done


def _is_group(entry: Entry) -> bool:
    """Also of what is one key's part of it."""
    return bool(entry.members)


def _keys_of(entry: Entry) -> dict[str, float]:
    """The keys that an entry is about, each with its tokens above the baseline."""
    if entry.members:
        return {member.key_id: max(0.0, member.excess_tokens) for member in entry.members}
    return {entry.entity.id: entry.sums.excess} if entry.entity.type == "key" else {}


def _overlap(one: Entry, other: Entry) -> bool:
    """Whether two entries may hold the same tokens.

    Incidents of the same entity follow one another: what a slow window had gathered before the second was not the
    first's, whose end has cleared the windows.
    """
    if one.fingerprint == other.fingerprint:
        return one.started < other.until and other.started < one.until
    return one.since < other.until and other.since < one.until


def rows_of(entries: Sequence[Entry], prices: Prices | None = None, *, by_entity: bool = True) -> list[Row]:
    """One row per entity, or per incident, with its cost; what has taken most comes first."""
    gathered: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        place = (entry.entity.type, entry.entity.id) if by_entity else ("", entry.alert_id)
        gathered[place].append(replace(entry, sums=priced(entry, prices)))
    rows = [Row(own[0].entity, tuple(own), _added([entry.sums for entry in own])) for own in gathered.values()]
    return sorted(rows, key=lambda row: (-row.sums.excess, row.entity.type, row.entity.id, row.entries[0].alert_id))


def total_of(rows: Sequence[Row]) -> Sums:
    """The sums of all rows, each token once.

    Within an entity the ends of intervals add up, for its baseline errs on the same side for long. Entities err each by
    themselves, so that their distances to the ends add up as squares.
    """
    by_entity: dict[tuple[str, str], list[Sums]] = defaultdict(list)
    for row in rows:
        for entry in row.entries:
            by_entity[entry.entity.type, entry.entity.id].append(_times(entry.sums, entry.counted))
    parts = [_added(own) for own in by_entity.values()]
    total = _added(parts)
    low = _squares([(part.excess, part.low) for part in parts])
    high = _squares([(part.excess, part.high) for part in parts])
    total = replace(
        total,
        low=None if low is None else max(0.0, total.excess - low),
        high=None if high is None else total.excess + high,
    )
    if total.cost is None:
        return total
    cost_low = _squares([(part.cost or 0.0, part.cost_low if part.cost else 0.0) for part in parts])
    cost_high = _squares([(part.cost or 0.0, part.cost_high if part.cost else 0.0) for part in parts])
    return replace(
        total,
        cost_low=None if cost_low is None else max(0.0, total.cost - cost_low),
        cost_high=None if cost_high is None else total.cost + cost_high,
    )


def priced(entry: Entry, prices: Prices | None) -> Sums:
    """An entry's sums with their cost: the gateway's own where it gave one in the currency of `prices`, else theirs.

    The tokens are taken to be spread evenly over the incident's time, and each part over its models.
    """
    sums = entry.sums
    if entry.cost_usd is not None and (prices is None or prices.currency == GATEWAY_CURRENCY):
        return _with_ends(replace(sums, cost=entry.cost_usd, unpriced=0.0))
    if prices is None:
        return replace(sums, unpriced=sums.excess)
    inputs = max(0.0, sums.excess - sums.output) if sums.input is None else sums.input
    cached, reasoning = sums.cached_input or 0.0, sums.reasoning or 0.0
    parts: dict[Part, float] = {
        "input": inputs - cached,
        "cached_input": cached,
        "output": sums.output - reasoning,
        "reasoning": reasoning,
    }
    cost, priced_share = 0.0, 0.0
    for model_id, share in entry.models or (("none", 1.0),):
        tokens = {part: count * share for part, count in parts.items()}
        of_model = prices.cost(model_id, tokens, entry.since, entry.until)
        if of_model is not None:
            cost += of_model
            priced_share += share
    if priced_share <= 0:
        return replace(sums, unpriced=sums.excess)
    return _with_ends(replace(sums, cost=cost, unpriced=sums.excess * max(0.0, 1.0 - priced_share)))


def _with_ends(sums: Sums) -> Sums:
    """The cost at the ends of the interval of the tokens."""
    if sums.cost is None or sums.low is None or sums.high is None or sums.excess <= 0:
        return sums
    each = sums.cost / sums.excess
    return replace(sums, cost_low=each * sums.low, cost_high=each * sums.high)


def _times(sums: Sums, share: float) -> Sums:
    """A share of all sums."""

    def part(number: float | None) -> float | None:
        return None if number is None else number * share

    return Sums(
        calls=None if sums.calls is None else round(sums.calls * share),
        excess=sums.excess * share,
        low=part(sums.low),
        high=part(sums.high),
        input=part(sums.input),
        cached_input=part(sums.cached_input),
        output=sums.output * share,
        reasoning=part(sums.reasoning),
        cost=part(sums.cost),
        cost_low=part(sums.cost_low),
        cost_high=part(sums.cost_high),
        unpriced=sums.unpriced * share,
    )


def _added(parts: Sequence[Sums]) -> Sums:
    """Sums of sums. Where one does not know a number, nor does the sum; a cost is that of what has one."""

    def known(numbers: Iterable[float | None]) -> float | None:
        found = list(numbers)
        return None if None in found else math.fsum(number for number in found if number is not None)

    costs = [part.cost for part in parts if part.cost is not None]
    calls = known(part.calls for part in parts)
    dear = [part for part in parts if part.cost is not None]
    return Sums(
        calls=None if calls is None else int(calls),
        excess=math.fsum(part.excess for part in parts),
        low=known(part.low for part in parts),
        high=known(part.high for part in parts),
        input=known(part.input for part in parts),
        cached_input=known(part.cached_input for part in parts),
        output=math.fsum(part.output for part in parts),
        reasoning=known(part.reasoning for part in parts),
        cost=math.fsum(costs) if costs else None,
        cost_low=known(part.cost_low for part in dear) if dear else None,
        cost_high=known(part.cost_high for part in dear) if dear else None,
        unpriced=math.fsum(part.unpriced for part in parts),
    )


def _squares(ends: Sequence[tuple[float, float | None]]) -> float | None:
    """Root of the sum of squared distances from a value to one end of its interval; None: one has no interval."""
    distances = [None if end is None else end - value for value, end in ends]
    if None in distances:
        return None
    return math.sqrt(math.fsum(distance * distance for distance in distances if distance is not None))


def models_of(entries: Iterable[Entry], prices: Prices | None = None) -> Mapping[str, float]:
    """Share of each model in the tokens of some entries, by its name where the price file has it; the largest first."""
    tokens: dict[str, float] = defaultdict(float)
    for entry in entries:
        for model_id, share in entry.models:
            tokens[model_id if prices is None else prices.name(model_id)] += share * entry.sums.excess
    total = sum(tokens.values())
    ordered = sorted(tokens.items(), key=lambda item: (-item[1], item[0]))
    return {name: count / total for name, count in ordered} if total > 0 else {}
