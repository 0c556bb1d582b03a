"""Fuzz the adapters: records that Hypothesis makes, and our own ones, mutated or with their bytes changed.

`python -m tests.gateways.fuzz --cases 1000000` runs so many cases over all formats (a quarter of an hour of one core;
`--seed` begins elsewhere, so that several runs add up); the suite runs a few hundred of the same. `--records FOLDER`
mutates the JSON records there too, such as those that a real gateway wrote. A case fails if a parser raises, if a
record is neither accepted nor refused with a known reason, if what is accepted is no call by the authority's word, or
if the process has grown by more than GROWTH_BYTES at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from stream.events import REASONS, SPELLINGS, ApiCall, Call
from stream.gateways.csv import rows
from stream.gateways.errors import InputError
from stream.gateways.overdraw import parse
from stream.gateways.recognise import recognise
from tests.gateways.fixtures import FIXTURES, FORMATS, Fixture

NOW = 1_800_000_000.0
BATCH = 10_000
"""Cases of a format before the next one's turn. Hypothesis remembers all that it has tried within one such turn."""
MUTATED = 9
"""Mutated records for each case of Hypothesis, whose search takes twenty times as long as what it tests."""
GROWTH_BYTES = 256 << 20
"""By so much the process may have grown since its first batches, caches of traits and Hypothesis' own included."""
BY_FORMAT = {format: [f for f in FIXTURES if f.format == format] for format in FORMATS}
CALLS: list[dict[str, Any]] = [
    {"event_id": "e-1", "time": 1.7e9, "key_id": "key-17", "org_id": "acme", "model": "m-large", "input_tokens": 12},
    {"event_id": "e-2", "time": "2026-03-01T12:00:00Z", "key_id": "k", "calls": 5, "period_seconds": 60.0,
     "gen_ai.usage.output_tokens": 7, "client_ip": "203.0.113.77", "user_agent": "curl/8", "cost_usd": 0.5},
]  # fmt: skip
"""Records of the canonical format, which has no fixtures of a gateway."""
REAL: dict[str, list[Any]] = {}
"""Records of real gateways that a run was given, by their format."""
CSV = b'event_id,time,key_id,input_tokens,model\ne-1,1.7e9,k,5,m\n"e,2",2026-03-01 12:00:00,k,,\n'

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
    st.sampled_from(["", "-", "1e999", "9" * 400, "\ud800", "2026-03-01T00:00:00Z", 0, -1, 10**30, 1.5]),
)  # fmt: skip
JSONISH = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


def said(call: Call) -> dict[str, Any]:
    """What a call says, by field."""
    return {name: getattr(call, name) for name in ApiCall.model_fields}


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all that a document holds."""
    found = [path] if path else []
    if isinstance(document, dict):
        for name, value in document.items():
            found += places(value, (*path, name))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            found += places(value, (*path, index))
    return found


def mutated(document: Any, rng: random.Random, odd: Any) -> Any:
    """The document with something put in the place of one value, or left out, or doubled, or renamed."""
    document = json.loads(json.dumps(document))
    path = rng.choice(places(document))
    holder = document
    for part in path[:-1]:
        holder = holder[part]
    what = rng.randrange(4)
    if what == 0:
        del holder[path[-1]]
    elif what == 1 and isinstance(holder, dict):
        holder[path[-1] + "x"] = holder.pop(path[-1])
    elif what == 2 and isinstance(holder, list):
        holder.append(holder[path[-1]])
    else:
        holder[path[-1]] = odd
    return document


def changed(value: bytes, rng: random.Random) -> bytes:
    """The bytes with some of them replaced, removed, doubled or cut off."""
    found = bytearray(value)
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(found))
        what = rng.randrange(5)
        if what == 0:
            found[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        elif what == 1:
            found[at : at + 1] = rng.choice((b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\", b"\0", b"\xff", b"NaN"))
        elif what == 2:
            del found[at : at + rng.randint(1, 40)]
        elif what == 3:
            found[at:at] = found[at : at + rng.randint(1, 200)]
        elif rng.random() < 0.1:
            del found[at:]
    return bytes(found)


def encoded(document: Any) -> bytes:
    """JSON of a document; a prompt's marker, which may have been moved to where an id stands, is no marker any more."""
    return json.dumps(document).replace("PROMPT-marker", "text").encode("utf-8", "surrogatepass")


def survives(fixture: Fixture, value: bytes) -> None:
    """Each record is accepted or refused with a reason, and what is accepted is a call by the authority's word."""
    calls, rejects = fixture.parse([(5, value, NOW)])
    nothing = value.strip().startswith(b"[") and not value.strip(b" \t\r\n[]")
    assert calls or rejects or nothing
    for reject in rejects:
        assert reject.reason in REASONS
        assert reject.message
        document = json.loads(reject.value) if reject.value else {}
        assert document.keys() <= SPELLINGS.keys()
    _are_calls(calls)
    shown = repr(calls) + repr(rejects)
    assert "PROMPT-marker" not in shown


def canonical_survives(value: bytes) -> None:
    """The same of the canonical format, whose refusals hold what was sent."""
    calls, rejects = parse([(5, value, NOW)])
    assert calls or rejects or (value.strip().startswith(b"[") and not value.strip(b" \t\r\n[]"))
    for reject in rejects:
        assert reject.reason in REASONS
        assert reject.message
    _are_calls(calls)


def csv_survives(value: bytes) -> None:
    """A csv is read to its end, or its header is refused; each of its rows is accepted or refused."""
    try:
        lines = [(line, row) for line, row in rows(enumerate(value.splitlines(keepends=True), 1))]
    except InputError:
        return
    for line, row in lines:
        calls, rejects = parse([(line, row, NOW)])
        assert len(calls) + len(rejects) == 1
        for _, _, call in calls:
            ApiCall.model_validate(said(call))


def _are_calls(calls: Any) -> None:
    for position, at, call in calls:
        assert position == 5
        assert math.isfinite(at)
        ApiCall.model_validate(said(call))


# ---------------------------------------------------------------------- many cases, by hand


def by_hypothesis(format: str, number: int, count: int) -> None:
    """Cases that Hypothesis makes: odd values in the places of a record, odd bytes, and whatever JSON there is."""

    @seed(number)
    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate], derandomize=False)  # fmt: skip
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        what = data.draw(st.integers(0, 9))
        if format == "csv":
            csv_survives(CSV[: data.draw(st.integers(0, len(CSV)))] + data.draw(st.binary(max_size=60)))
            return
        if what == 0:
            value = data.draw(st.one_of(st.binary(max_size=60), JSONISH.map(encoded)))
        else:
            document: Any = data.draw(st.sampled_from(_records(format)))
            rng = random.Random(data.draw(st.integers(0, 2**32)))
            for _ in range(data.draw(st.integers(1, 4))):
                if places(document):
                    document = mutated(document, rng, data.draw(JSONISH))
            value = encoded(document)
        _check(format)(value)

    run()


def by_mutation(format: str, number: int, count: int) -> None:
    """Cases without Hypothesis: bytes changed, parts put together, values swapped."""
    rng = random.Random(number)
    check = _check(format)
    sources = [CSV] if format == "csv" else [encoded(record) for record in _records(format)]
    for _ in range(count):
        value = rng.choice(sources)
        if rng.random() < 0.2:
            other = rng.choice(sources)
            value = value[: rng.randint(0, len(value))] + other[rng.randint(0, len(other)) :]
        elif format != "csv" and rng.random() < 0.4:
            document = json.loads(value)
            for _ in range(rng.randint(1, 5)):
                found = places(document)
                if not found:
                    break
                document = mutated(document, rng, _part(json.loads(rng.choice(sources)), rng))
            value = encoded(document)
        if rng.random() < 0.7:
            value = changed(value, rng)
        try:
            check(value)
        except BaseException:
            print(f"{format}: {value!r}", file=sys.stderr)
            raise


def _part(document: Any, rng: random.Random) -> Any:
    """Any part of a document: what stands in one place is put into another."""
    for step in rng.choice(places(document)):
        document = document[step]
    return document


def _records(format: str) -> list[Any]:
    ours = CALLS if format == "overdraw" else [fixture.record for fixture in BY_FORMAT[format]]
    return ours + REAL.get(format, [])


def read_real(folder: Path, say: Callable[[str], None] = print) -> None:
    """Take the records of the JSON files of a folder for cases as well, those of a known format."""
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        elements = document if isinstance(document, list) else [document]
        try:
            format = recognise([encoded(element) for element in elements]).format
        except InputError:
            format = ""
        if format not in BY_FORMAT:
            say(f"{path.name}: of no gateway's format, left out")
            continue
        say(f"{path.name}: {len(elements)} of {format}")
        REAL.setdefault(format, []).extend(elements)


def _check(format: str) -> Callable[[bytes], None]:
    if format == "csv":
        return csv_survives
    if format == "overdraw":
        return canonical_survives
    fixtures = BY_FORMAT[format]

    def check(value: bytes) -> None:
        # a parser is the options' (paths of a mapping, of a key) as much as the format's
        survives(fixtures[len(value) % len(fixtures)], value)

    return check


def _rss() -> int:
    """Resident bytes of this process now; where /proc is not, the most that it ever had."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(cases: int, first_seed: int = 0, say: Callable[[str], None] = print, mutations: int = MUTATED) -> Counter[str]:
    """Run at least so many cases, equally over the formats; returns how many of each format.

    Of each format there are `mutations` mutated records for each case of Hypothesis.

    Raises what a case raises, and MemoryError if the process grows without end.
    """
    done: Counter[str] = Counter()
    formats = [*FORMATS, "overdraw", "csv"]
    each = max(1, math.ceil(cases / len(formats) / (1 + mutations)))
    begun, settled = time.monotonic(), None
    number = first_seed
    step = max(1, BATCH // (1 + mutations))
    for start in range(0, each, step):
        count = min(step, each - start)
        for format in formats:
            number += 1
            by_hypothesis(format, number, count)
            by_mutation(format, number, mutations * count)
            done[format] += (1 + mutations) * count
        settled = settled or _rss()
        grown = _rss() - settled
        say(f"{done.total():>9} cases, {time.monotonic() - begun:6.0f} s, {_rss() >> 20} MB")
        if grown > GROWTH_BYTES:
            raise MemoryError(f"the process has grown by {grown >> 20} MB")
    return done


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutations", type=int, default=MUTATED, help="mutated records for each case of Hypothesis")
    parser.add_argument("--records", type=Path, help="folder of JSON files whose records are mutated as well")
    told = parser.parse_args()
    if told.records is not None:
        read_real(told.records)
    done = fuzz(told.cases, told.seed, lambda line: print(line, flush=True), told.mutations)
    print(", ".join(f"{format} {count}" for format, count in sorted(done.items())))
    print(f"{done.total()} cases: every record was accepted or refused with a reason")


if __name__ == "__main__":
    main()
