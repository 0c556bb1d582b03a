"""The protocol of a foreign format, and the one loop that takes its records apart and has every call judged.

An adapter only says where things stand: from a decoded record to documents with the names of `ApiCall`. What a call may
say is judged where the canonical format is, so that there is one judge. Decoders know the named fields alone: prompts
and answers in a record are passed over by the decoder, never made into anything, and a refusal holds named fields only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from stream.events import EARLIEST_TIME, LATEST_TIME, Arrival, Call, Reject
from stream.gateways import scalars
from stream.gateways.errors import InputError
from stream.gateways.overdraw import Refused, judge
from stream.gateways.paths import Reader, path_of
from stream.gateways.quick import MAX_RECORD_BYTES, Record

Document = dict[str, Any]
"""A call with the names of `ApiCall`, not judged yet; `time` in epoch seconds if it could be read."""
Parse = Callable[[Iterable[Record]], tuple[list[Arrival], list[Reject]]]

MAX_ELEMENTS = 20_000
"""Calls of one record: twice what 8 MiB of full canonical events hold."""
LARGE_BYTES = 1 << 20
MAX_VALUES = 400_000
"""Commas in a record of more than 1 MiB: a bound on what its decoding makes, some 60 MB."""
SECRETS = frozenset(
    (
        "authorization", "proxy-authorization", "x-api-key", "api-key", "apikey", "x-goog-api-key", "cookie",
        "ocp-apim-subscription-key", "x-auth-token",
    )
)  # fmt: skip
"""Headers that hold the secret itself, which must not become an id."""

_convert = msgspec.convert
_encode = msgspec.json.Encoder().encode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNDECODABLE = (ValueError, RecursionError)
"""What a decoder raises; RecursionError: thousands of nested brackets."""


class NotACall(Exception):
    """A record that tells of no call to a model; the message says what it lacks and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where a format lets one choose.

    key_from, org_from: names that are looked at for `key_id` and `org_id`, in this order, instead of the usual ones: a
    JSON path into the record, or an attribute's name (otel)
    mapping: the text of a mapping file, for the format `mapping`
    """

    key_from: tuple[str, ...] = ()
    org_from: tuple[str, ...] = ()
    mapping: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for names in (self.key_from, self.org_from):
            for name in names:
                refuse_secrets(name)


class Adapter(Protocol):
    """A foreign format."""

    @property
    def record(self) -> type:
        """The named fields of a JSON object, as a msgspec Struct; all else is ignored."""

    @property
    def key_hint(self) -> str:
        """What to do where no record says whose key it was."""

    def documents(self, record: Any) -> Sequence[Document]:
        """The calls of a decoded record, at least one; raises NotACall."""


def refuse_secrets(name: str) -> None:
    """Raises InputError if a header's or a field's name is one of those that hold a secret."""
    last = name.replace("]", "").replace("'", "").replace('"', "").replace("[", ".").rpartition(".")[2]
    if last.lower().replace("_", "-") in SECRETS:
        raise InputError(
            f"{name} holds the secret itself: have the gateway log an id or a hash of the key, and name that"
        )


class Parser:
    """The parser of a format: calls and rejects of raw records, in their order; it never raises on what they hold.

    options: `key_from` and `org_from` as paths into the record, instead of the places where the adapter looks
    """

    def __init__(self, adapter: Adapter, options: Options | None = None) -> None:
        self._documents = adapter.documents
        self._record = adapter.record
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(adapter.record).decode
        self._hint = adapter.key_hint
        self._override = _override(options) if options is not None else None

    def __call__(self, records: Iterable[Record]) -> tuple[list[Arrival], list[Reject]]:
        """See `stream.gateways.overdraw.parse`."""
        arrivals: list[Arrival] = []
        rejects: list[Reject] = []
        documents, decode, override, judge_all = self._documents, self._decode, self._override, self._judge
        for position, value, latest in records:
            if value is None or len(value) > LARGE_BYTES:
                self._slowly(position, value, latest, arrivals, rejects)
                continue
            try:
                found = documents(decode(value))
            except (NotACall, *_UNDECODABLE):
                self._slowly(position, value, latest, arrivals, rejects)
                continue
            if len(found) > MAX_ELEMENTS:
                self._slowly(position, value, latest, arrivals, rejects)
                continue
            if override is not None:
                override.apply(found, value)
            judge_all(found, position, None, latest, arrivals, rejects)
        return arrivals, rejects

    def payload(self, payload: Mapping[str, Any], latest: float) -> tuple[list[Arrival], list[Reject]]:
        """The same of a record that is in memory already, as Python has it; of `payload` the named fields are read."""
        arrivals: list[Arrival] = []
        rejects: list[Reject] = []
        try:
            found = self._documents(_convert(payload, self._record))
        except (NotACall, *_UNDECODABLE) as error:
            reason, message = _why(error, b"")
            rejects.append(Reject(0, reason, message))
        else:
            if self._override is not None:
                self._override.apply(found, payload)
            self._judge(found, 0, None, latest, arrivals, rejects)
        return arrivals, rejects

    def _judge(
        self,
        found: Sequence[Document],
        position: int,
        first: int | None,
        latest: float,
        arrivals: list[Arrival],
        rejects: list[Reject],
    ) -> None:
        """`first` is the place of the first document among the elements of the record, None if it is no array."""
        for index, document in enumerate(found, first or 0):
            try:
                call = _convert(document, Call)
                time = call.time
                if type(time) is float and EARLIEST_TIME <= time <= latest and time < LATEST_TIME:
                    arrivals.append((position, time, call))
                    continue
            except _UNDECODABLE:  # the authority says why
                pass
            element = index if first is not None or len(found) > 1 else None
            judge(position, element, document, _shown(document), latest, arrivals, rejects, hint=self._hint)

    def _slowly(
        self, position: int, value: bytes | None, latest: float, arrivals: list[Arrival], rejects: list[Reject]
    ) -> None:
        """A record that is no plain object: an array, something odd, or something to refuse."""

        def refuse(reason: str, message: str, element: int | None = None) -> None:
            rejects.append(Reject(position, reason, message, b"", element))

        if isinstance(value, Refused):
            refuse(value.reason, value.message)
            return
        if not value or not value.strip():
            refuse("empty", "the record has no value: send one JSON object")
            return
        if len(value) > MAX_RECORD_BYTES:
            refuse("too_large", f"the record has {len(value)} bytes, more than {MAX_RECORD_BYTES}: split it")
            return
        if len(value) > LARGE_BYTES and value.count(b",") > MAX_VALUES:
            refuse("too_large", f"the record holds more than {MAX_VALUES} values: split it")
            return
        try:
            parts = _parts(value) if value.lstrip()[:1] == b"[" else None
        except _UNDECODABLE as error:
            refuse(*_why(error, value))
            return
        if parts is not None and len(parts) > MAX_ELEMENTS:
            refuse("too_large", f"an array of {len(parts)} elements, more than {MAX_ELEMENTS}: split it")
            return
        element = None if parts is None else 0
        for part in (value,) if parts is None else map(bytes, parts):
            try:
                found = self._read(part)
            except (NotACall, *_UNDECODABLE) as error:
                refuse(*_why(error, part), element)
                count = 1
            else:
                count = len(found)
                if (element or 0) + count > MAX_ELEMENTS:
                    refuse("too_large", f"the record holds more than {MAX_ELEMENTS} calls: split it", element)
                    return
                self._judge(found, position, element, latest, arrivals, rejects)
            if element is not None:
                element += count

    def _read(self, value: bytes) -> Sequence[Document]:
        try:
            record = self._decode(value)
        except msgspec.ValidationError:
            raise
        except _UNDECODABLE:
            value = _mended(value)
            record = self._decode(value)
        found = self._documents(record)
        if self._override is not None:
            self._override.apply(found, value)
        return found


class _Override:
    """What the user's own paths say of whose key it was."""

    def __init__(self, wanted: Mapping[str, Sequence[str]]) -> None:
        self._reader = Reader({field: [path_of(text) for text in texts] for field, texts in wanted.items()})

    def apply(self, found: Sequence[Document], source: Any) -> None:
        """Put it into the documents; `source` is the record, as bytes or decoded."""
        try:
            reader = self._reader
            record = reader.decode(source) if isinstance(source, bytes) else _convert(source, reader.record)
        except _UNDECODABLE:  # a path leads through something else than an object: it leads nowhere
            values: dict[str, Any] = {}
        else:
            values = self._reader.read(record)
        for document in found:
            for name in self._reader.names:
                value = scalars.key(values.get(name)) if name == "key_id" else scalars.name(values.get(name))
                if value is not None:
                    document[name] = value
                else:
                    document.pop(name, None)


def _override(options: Options) -> _Override | None:
    wanted = {"key_id": options.key_from, "org_id": options.org_from}
    said = {name: texts for name, texts in wanted.items() if texts}
    return _Override(said) if said else None


def _parts(value: bytes) -> list[msgspec.Raw]:
    """The elements of an array, each as JSON."""
    try:
        return _elements(value)
    except msgspec.ValidationError:
        raise
    except _UNDECODABLE:
        return _elements(_mended(value))


def _mended(value: bytes) -> bytes:
    """JSON of what is nearly JSON: with lone surrogates, NaN, or text in Latin-1. Raises what `json.loads` does.

    Gateways write such, because a client sent it.
    """
    whole = json.loads(value.decode("utf-8", "replace"), parse_constant=lambda _: None)
    return json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace")


def _shown(document: Document) -> bytes:
    """A document as a refusal keeps it."""
    try:
        return _encode(document)
    except _UNDECODABLE:
        return json.dumps(document, default=str).encode()


def _why(error: Exception, value: bytes) -> tuple[str, str]:
    """Reason code and words of a record that could not be decoded; nothing of its content."""
    if isinstance(error, NotACall):
        return "not_a_call", str(error)
    if isinstance(error, msgspec.ValidationError):
        text = str(error)
        reason = "wrong_type" if " - at " in text else "not_an_object"
        return reason, f"{text}: is it of another format?"[:300]
    if isinstance(error, RecursionError):
        return "broken_json", "its brackets are nested too deep"
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as bad:
        return "invalid_utf8", f"not UTF-8 at byte {bad.start}"
    return "broken_json", f"not JSON: {error}"[:300]
