"""ServeGen's client traces: rates per window and lengths per six hours, read from the archives as they are.

ServeGen (Alibaba, Apache-2.0, https://github.com/alibaba/ServeGen) gives, per client of a production cluster, a row
per 600 s (rate, coefficient of variation of the gaps) and per 6 h histograms of input and output tokens. The quantiles
made of the histograms, tens of megabytes of text, are kept under the data folder.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.settings import load_settings

Table = NDArray[np.float32]

WINDOW_SECONDS = 600
DAYS = 14
WINDOWS = DAYS * 86_400 // WINDOW_SECONDS
SLOT_SECONDS = 21_600
SLOTS = DAYS * 86_400 // SLOT_SECONDS
POINTS = 257
"""Quantiles kept of each histogram: enough that the 99th percentile is not a guess."""
CAP_SHARE = 0.004
"""A value near the top with more than this part of the answers is the limit that the client had set."""
ARCHIVES = ("m-large.even-clients.tar.gz", "m-small.tar.gz", "mm-image.tar.gz")
POOLS = ("language/m-large", "language/m-small", "multimodal/mm-image")
"""Order of the clients: the split into halves stands on it."""
_FORMAT = b"clients-1"
_MEMBER = re.compile(r"data/(?P<pool>\w+/[\w-]+)/chunk-(?P<id>\w+)-(?P<part>trace\.csv|dataset\.json)")


class NoTracesError(Exception):
    """The folder holds none of ServeGen's archives."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients as rows. Window w covers [w, w + 1) x 600 s from a midnight on; slot s covers 6 h.

    names: pool and id within it; windows: how many of the `WINDOWS` were recorded (2016: 14 days; 144: one day)
    rates: calls per second, clients x WINDOWS, 0 where idle; cvs: coefficient of variation of the gaps
    inputs, outputs: quantiles of a call's tokens, clients x SLOTS x POINTS; zeros if `has_lengths` is False
    limits: the largest output, or the value that many answers end at
    """

    names: NDArray[np.str_]
    windows: NDArray[np.int64]
    rates: Table
    cvs: Table
    has_lengths: NDArray[np.bool_]
    inputs: Table
    outputs: Table
    limits: Table


def load_clients(folder: Path, cache: Path | None = None) -> Clients:
    """The clients in the archives of `folder`, quantiles cached under `cache` (None: `cache` in the data folder).

    Raises NoTracesError if the folder does not hold all of ServeGen's archives.
    """
    archives = [folder / name for name in ARCHIVES]
    if absent := [path.name for path in archives if not path.is_file()]:
        raise NoTracesError(
            f"{folder} lacks {', '.join(absent)}: pack data/language/m-large, data/language/m-small and "
            "data/multimodal/mm-image of https://github.com/alibaba/ServeGen under these names"
        )
    digest = hashlib.sha256(_FORMAT)
    for path in archives:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    if cache is None:
        cache = Path(load_settings().data_dir) / "cache"
    kept = cache / f"servegen-{digest.hexdigest()[:16]}.npz"
    if not kept.exists():
        _keep(kept, _read(archives))
    with np.load(kept) as arrays:
        return Clients(**{field.name: arrays[field.name] for field in fields(Clients)})


def _keep(path: Path, clients: Clients) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # renamed when complete, so that another process never reads half a file
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **{field.name: getattr(clients, field.name) for field in fields(Clients)})
    part.replace(path)


def _read(archives: list[Path]) -> Clients:
    traces: dict[str, tuple[Table, Table]] = {}
    lengths: dict[str, tuple[Table, Table, float]] = {}
    for name, part, text in _members(archives):
        if part == "trace.csv":
            traces[name] = _trace(text)
        elif (found := _lengths(json.loads(text))) is not None:
            lengths[name] = found
    names = sorted(traces, key=lambda name: (POOLS.index(name.rpartition("/")[0]), name + "-trace.csv"))
    clients = Clients(
        names=np.array(names),
        windows=np.array([len(traces[name][0]) for name in names], np.int64),
        rates=np.zeros((len(names), WINDOWS), np.float32),
        cvs=np.zeros((len(names), WINDOWS), np.float32),
        has_lengths=np.array([name in lengths for name in names]),
        inputs=np.zeros((len(names), SLOTS, POINTS), np.float32),
        outputs=np.zeros((len(names), SLOTS, POINTS), np.float32),
        limits=np.zeros(len(names), np.float32),
    )
    for row, name in enumerate(names):
        rates, cvs = traces[name]
        clients.rates[row, : len(rates)] = rates[:WINDOWS]
        clients.cvs[row, : len(cvs)] = cvs[:WINDOWS]
        if name in lengths:
            clients.inputs[row], clients.outputs[row], clients.limits[row] = lengths[name]
    return clients


def _members(archives: list[Path]) -> Iterator[tuple[str, str, str]]:
    """Name of the client, part and text of every file in the archives."""
    for path in archives:
        with tarfile.open(path) as archive:
            for member in archive:
                found = _MEMBER.fullmatch(member.name)
                file = archive.extractfile(member) if found else None
                if found and file:
                    yield f"{found['pool']}/{found['id']}", found["part"], file.read().decode()


def _trace(text: str) -> tuple[Table, Table]:
    """Rate and coefficient of variation per window; a row that names no arrival pattern is an idle window."""
    rows = [line.split(",") for line in text.splitlines() if line]
    rates = np.array([float(row[1]) if row[3] else 0.0 for row in rows], np.float32)
    return rates, np.array([float(row[2]) if row[3] else 0.0 for row in rows], np.float32)


def _lengths(slots: dict[str, Any]) -> tuple[Table, Table, float] | None:
    """Quantiles of input and output per slot, and the limit; a slot without calls is like the nearest that has some."""
    inputs = np.zeros((SLOTS, POINTS), np.float32)
    outputs = np.zeros((SLOTS, POINTS), np.float32)
    seen: list[int] = []
    top: dict[float, float] = {}
    for second, histograms in slots.items():
        slot = int(second) // SLOT_SECONDS
        pair = [_histogram(histograms.get(f"{side}_tokens", "{}")) for side in ("input", "output")]
        if slot >= SLOTS or pair[0] is None or pair[1] is None:
            continue
        inputs[slot], outputs[slot] = _quantiles(*pair[0]), _quantiles(*pair[1])
        seen.append(slot)
        for value, share in zip(pair[1][0][-3:].tolist(), pair[1][1][-3:].tolist(), strict=True):
            top[value] = max(top.get(value, 0.0), share)
    if not seen:
        return None
    present = np.array(sorted(seen))
    nearest = present[np.abs(present - np.arange(SLOTS)[:, None]).argmin(axis=1)]
    largest = float(outputs[present].max())
    atoms = [value for value, share in top.items() if share > CAP_SHARE and value >= largest / 2]
    return inputs[nearest], outputs[nearest], max(atoms, default=largest)


def _histogram(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Values in ascending order and their shares, from "{9: 0.25, 163: 0.75}"; None if it is empty."""
    inside = text.strip()[1:-1].replace(":", ",")
    if not inside.strip():
        return None
    numbers = np.array(inside.split(","), dtype=np.float64)
    order = np.argsort(numbers[::2])
    shares = numbers[1::2][order]
    return numbers[::2][order], shares / shares.sum()


def _quantiles(values: NDArray[np.float64], shares: NDArray[np.float64]) -> Table:
    levels = (np.arange(POINTS) + 0.5) / POINTS
    places = np.minimum(np.searchsorted(np.cumsum(shares), levels), len(values) - 1)
    return values[places].astype(np.float32)
