"""Our own records of every gateway, written from its field table, with what is to come of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stream.gateways import gateway
from stream.gateways.adapter import Options, Parse

RECORDS = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Fixture:
    """A record (JSON), and what is to come of it: fields of its calls in order, and reasons."""

    format: str
    name: str
    record: Any
    calls: list[dict[str, Any]]
    rejects: list[str]
    options: Options

    @property
    def value(self) -> bytes:
        return json.dumps(self.record, ensure_ascii=False).encode()

    @cached_property
    def parse(self) -> Parse:
        return gateway(self.format).parser(self.options)

    def __str__(self) -> str:
        return f"{self.format}/{self.name}"


def _options(told: dict[str, Any]) -> Options:
    return Options(tuple(told.get("key_from", ())), tuple(told.get("org_from", ())), told.get("mapping"))


def load() -> list[Fixture]:
    found = []
    for path in sorted(RECORDS.glob("*/*.json")):
        told = json.loads(path.read_text("utf-8"))
        options = _options(told.get("options", {}))
        found.append(Fixture(path.parent.name, path.stem, told["record"], told["calls"], told["rejects"], options))
    return found


FIXTURES = load()
FORMATS = sorted({fixture.format for fixture in FIXTURES})
