"""Any other JSON: a TOML file says which path each field comes from, in which type and unit.

    [fields]
    event_id = "request.id"
    time = { path = "finished", unit = "ms" }
    key_id = ["auth.key_id", "consumer.name"]     # the first that says something
    input_tokens = "usage['tokens.in']"
    duration_ms = { path = "took", unit = "s" }
    operation = { value = "chat" }                # the same for every call

Types are those of the fields: counts may be spelt as texts, and names as numbers. A time is a number in `unit` (s, ms,
us, ns) or an ISO text, in `zone` if it names none. `zeros_are_missing = true` beside `[fields]` says that an answer of
0 to 0 tokens means that the gateway did not know.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from stream.events import MAX_PERIOD_SECONDS, ApiCall
from stream.gateways import scalars
from stream.gateways.adapter import Document, Options, refuse_secrets
from stream.gateways.errors import InputError
from stream.gateways.paths import Path, Reader, path_of
from stream.gateways.traits import client_in, network_in, template_in

KEY_HINT = "Look at the path of key_id in the mapping file"
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units of time, in seconds."""
DOLLARS = {"usd": 1.0, "cents": 0.01, "micros": 1e-6}
TOKENS = {"tokens": 1, "thousands": 1000}
COUNTS = frozenset(("input_tokens", "output_tokens", "reasoning_tokens", "cached_input_tokens"))
UNITS: dict[str, dict[str, Any]] = dict.fromkeys(COUNTS, TOKENS)
UNITS |= {"time": SECONDS, "duration_ms": SECONDS, "period_seconds": SECONDS, "cost_usd": DOLLARS}
OPTIONS = ("path", "value", "unit", "zone")
REQUIRED = ("event_id", "time", "key_id")
MAX_ALTERNATIVES = 8

_Convert = Callable[[Any], Any]


class Mapping:
    """See the module. Raises InputError with what is wrong in the file."""

    key_hint = KEY_HINT

    def __init__(self, options: Options) -> None:
        if options.mapping is None:
            raise InputError(
                "the format mapping needs a file that says where the fields stand: see deploy/gateways/mapping"
            )
        table = _table(options.mapping)
        zeros = table.get("zeros_are_missing", False)
        if not isinstance(zeros, bool):
            raise InputError("mapping: zeros_are_missing is true or false")
        self._zeros = zeros
        self._constants: Document = {}
        paths: dict[str, list[Path]] = {}
        self._converts: dict[str, _Convert] = {}
        for field, spec in table["fields"].items():
            self._add(field, spec, paths)
        missing = [field for field in REQUIRED if field not in paths and field not in self._constants]
        if missing:
            raise InputError(f"mapping: [fields] says nothing of {', '.join(missing)}, which every call needs")
        self._reader = Reader(paths)
        self.record = self._reader.record

    def _add(self, field: str, spec: Any, paths: dict[str, list[Path]]) -> None:
        if field not in ApiCall.model_fields:
            near = difflib.get_close_matches(field, ApiCall.model_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else "see `overdraw schema event --table`"
            raise InputError(f"mapping: there is no field {field!r}: {hint}")
        if isinstance(spec, (str, list)):
            spec = {"path": spec}
        if not isinstance(spec, dict):
            raise InputError(f'mapping: {field} is a path, several of them, or a table such as {{ path = "a.b" }}')
        for option in spec:
            if option not in OPTIONS:
                raise InputError(f"mapping: {field} has no option {option!r}: there are {', '.join(OPTIONS)}")
        if ("value" in spec) == ("path" in spec):
            raise InputError(f"mapping: {field} needs a path, or a value, and not both")
        convert = _converter(field, spec)
        if "value" in spec:
            value = spec["value"]
            if not isinstance(value, (str, int, float)):
                raise InputError(f"mapping: the value of {field} is a text or a number")
            self._constants[field] = convert(value)
            return
        texts = spec["path"] if isinstance(spec["path"], list) else [spec["path"]]
        if not 0 < len(texts) <= MAX_ALTERNATIVES or not all(isinstance(text, str) for text in texts):
            raise InputError(f"mapping: the path of {field} is a text, or a list of one to {MAX_ALTERNATIVES}")
        try:
            if field in ("key_id", "org_id", "user_id", "event_id"):
                for text in texts:
                    refuse_secrets(text)
            paths[field] = [path_of(text) for text in texts]
        except InputError as error:
            raise InputError(f"mapping: {field}: {error}") from None
        self._converts[field] = convert

    def documents(self, record: Any) -> Sequence[Document]:
        """One call a record."""
        document = self._constants.copy()
        converts = self._converts
        for field, value in self._reader.read(record).items():
            found = converts[field](value)
            if found is not None:
                document[field] = found
        nothing = document.get("input_tokens") == 0 and document.get("output_tokens") == 0
        if nothing and self._zeros and scalars.answered(document.get("status")):
            del document["input_tokens"], document["output_tokens"]
        return (document,)


def _table(text: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"mapping: it is no TOML: {error}") from None
    for name in table:
        if name not in ("fields", "zeros_are_missing"):
            raise InputError(f"mapping: unknown {name!r}: there are [fields] and zeros_are_missing")
    if not isinstance(table.get("fields"), dict):
        raise InputError("mapping: it has no table [fields]")
    return table


def _converter(field: str, spec: dict[str, Any]) -> _Convert:
    """What makes a field of a value."""
    unit, zone = spec.get("unit"), spec.get("zone")
    units = UNITS.get(field, {})
    if unit is not None and unit not in units:
        known = f"there are {', '.join(units)}" if units else "it has none"
        raise InputError(f"mapping: {field} has no unit {unit!r}: {known}")
    if zone is not None and field != "time":
        raise InputError(f"mapping: {field} has no zone: only time has")
    if field == "time":
        try:
            place = ZoneInfo(zone or "UTC")
        except (KeyError, ValueError, OSError, TypeError):
            raise InputError(f"mapping: there is no time zone {zone!r}: name one such as Europe/Berlin") from None
        return partial(scalars.moment, unit=SECONDS[unit or "s"], zone=place)
    if field == "duration_ms":
        return partial(scalars.amount, times=SECONDS[unit or "ms"] * 1000.0)
    if field == "period_seconds":
        return partial(scalars.amount, times=SECONDS[unit or "s"], most=MAX_PERIOD_SECONDS)
    if field == "cost_usd":
        return partial(scalars.amount, times=DOLLARS[unit or "usd"], most=scalars.MAX_COST_USD)
    if field in COUNTS:
        return partial(_tokens, times=TOKENS[unit or "tokens"])
    return CONVERTERS[field]


def _tokens(value: Any, times: int) -> Any:
    if times == 1:
        return scalars.count(value)
    found = scalars.number(value)
    return scalars.count(value) if found is None else round(found * times)


CONVERTERS: dict[str, _Convert] = {
    "event_id": partial(scalars.name, most=scalars.MAX_EVENT_ID),
    "key_id": scalars.key,
    "org_id": scalars.name,
    "user_id": scalars.name,
    "model": scalars.name,
    "requested_model": scalars.name,
    "operation": scalars.name,
    "calls": scalars.count,
    "max_output_tokens": scalars.limit,
    "status": scalars.status,
    "client_ip": network_in,
    "asn": scalars.count,
    "country": partial(scalars.name, most=64),
    "user_agent": client_in,
    "prompt_fingerprint": template_in,
    "gateway": scalars.name,
}
"""Fields that have no unit."""
