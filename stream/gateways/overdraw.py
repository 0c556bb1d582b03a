"""The canonical format: one JSON object per call, or an array of them, with the names of `ApiCall`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast

import msgspec
import pydantic_core
from pydantic import AliasChoices, ValidationError

from stream.events import ApiCall, Arrival, Call, Reject
from stream.gateways.quick import MAX_RECORD_BYTES, Record, take
from stream.gateways.traits import reduce_traits

ALIASES = {
    str(alias): name
    for name, field in ApiCall.model_fields.items()
    if isinstance(field.validation_alias, AliasChoices)
    for alias in field.validation_alias.choices
    if alias != name
}
"""Names of OpenTelemetry to the field that each means."""

# The quick twin does not know aliases, and must not pass over one in silence. So each is a field here whose only legal
# value nobody sends: a record that has one fails to decode and goes the slow way. That costs nothing where there is
# none, whereas looking for their names in the bytes takes as long as the decoding.
_Wire = msgspec.defstruct(
    "_Wire",
    [(f"alias_{index}", Literal["\0"], "\0") for index in range(len(ALIASES))],
    bases=(Call,),
    rename={f"alias_{index}": alias for index, alias in enumerate(ALIASES)},
    gc=False,
)
_decode = msgspec.json.Decoder(cast(type[Call], _Wire)).decode

_PYDANTIC_REASONS = {
    "missing": "missing_field",
    "string_too_long": "too_long",
    "string_too_short": "out_of_range",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "out_of_range",
    "int_parsing_size": "out_of_range",
    "model_type": "not_an_object",
}
_JSON_WORDS: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "an array",
}
_OWN_REASONS = frozenset({"wrong_type", "bad_time", "time_without_zone", "time_out_of_range"})


class Refused(bytes):
    """A record that a parser of another format has refused, on its way to whoever counts: its bytes are what is shown.

    The parser repeats the refusal in the other one's words.
    """

    reason: str
    message: str
    element: int | None

    def __new__(cls, reject: Reject) -> Refused:
        """`reject` is the refusal."""
        refused = super().__new__(cls, reject.value)
        refused.reason, refused.message, refused.element = reject.reason, reject.message, reject.element
        return refused


def parse(records: Iterable[Record]) -> tuple[list[Arrival], list[Reject]]:
    """Calls and rejects of raw records, in their order; never raises on what a record holds.

    >>> calls, rejects = parse([(7, b'{"event_id": "a", "time": 1.7e9, "key_id": "k"}', 2e9), (8, b"{", 2e9)])
    >>> [(position, time, call.key_id) for position, time, call in calls], rejects[0].reason
    ([(7, 1700000000.0, 'k')], 'broken_json')
    """
    arrivals: list[Arrival] = []
    rejects: list[Reject] = []

    def slowly(position: int, value: bytes | None, latest: float) -> None:
        _parse_slowly(position, value, latest, arrivals, rejects)

    take(records, _decode, slowly, arrivals)
    return arrivals, rejects


def _parse_slowly(
    position: int, value: bytes | None, latest: float, arrivals: list[Arrival], rejects: list[Reject]
) -> None:
    """The authority's word on a record that the quick way did not take: an alias, an array, or a reason."""
    if isinstance(value, Refused):
        rejects.append(Reject(position, value.reason, value.message, value, value.element))
        return
    if not value or not value.strip():
        rejects.append(Reject(position, "empty", "the record has no value: send one JSON object", value or b""))
        return
    if len(value) > MAX_RECORD_BYTES:
        text = f"the record has {len(value)} bytes, more than {MAX_RECORD_BYTES}: split it"
        rejects.append(Reject(position, "too_large", text, value[:4096]))
        return
    try:
        document = pydantic_core.from_json(value, allow_inf_nan=True)
    except ValueError as error:
        try:
            value.decode("utf-8")
        except UnicodeDecodeError as bad:
            rejects.append(Reject(position, "invalid_utf8", f"not UTF-8 at byte {bad.start}", value))
        else:
            rejects.append(Reject(position, "broken_json", f"not JSON: {error}"[:300], value))
        return
    if not isinstance(document, list):
        judge(position, None, document, value, latest, arrivals, rejects)
        return
    for index, element in enumerate(document):
        raw = b"" if isinstance(element, list) else pydantic_core.to_json(element, inf_nan_mode="constants")
        judge(position, index, element, raw, latest, arrivals, rejects)


def judge(
    position: int,
    index: int | None,
    document: Any,
    raw: bytes,
    latest: float,
    arrivals: list[Arrival],
    rejects: list[Reject],
    *,
    hint: str = "",
) -> None:
    """The authority's word on one decoded event, appended to `arrivals` or to `rejects`.

    index: its place in the record's array, None if there is none
    raw: what a reject keeps of it
    hint: what to do where the key is missing
    """
    if not isinstance(document, dict):
        text = f"an event is a JSON object, this is {_JSON_WORDS.get(type(document), 'none')}"
        rejects.append(Reject(position, "not_an_object", text, raw, index))
        return
    try:
        call = ApiCall.model_validate(document)
    except ValidationError as error:
        reason, message = _reason(error)
        if hint and reason == "missing_field" and message.startswith("key_id"):
            message = f"{message}. {hint}"
        rejects.append(Reject(position, reason, message, raw, index))
        return
    if call.time > latest:
        text = f"time is {call.time - latest:.0f} s later than the clock allows: mend the gateway's clock"
        rejects.append(Reject(position, "future", text, raw, index))
        return
    found = Call(**dict(call))
    reduce_traits(found)
    arrivals.append((position, call.time, found))


def _reason(error: ValidationError) -> tuple[str, str]:
    """Reason code and words of the first problem; values are left out, for they may be anybody's."""
    problems = error.errors(include_url=False, include_input=False)
    first = problems[0]
    kind = first["type"]
    reason = kind if kind in _OWN_REASONS else _PYDANTIC_REASONS.get(kind, "wrong_type")
    field = ".".join(str(part) for part in first["loc"]) or "the event"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return reason, f"{field}: {first['msg']}{more}"
