"""JSON paths (`consumer.id`, `$.items[0]['a.b']`), compiled into one decoder that passes over everything else.

A name may be quoted in brackets if it holds a dot; `[2]` is the third element of an array. Names are matched as they
are written. Of a value that a path does not lead to nothing is made, be it a prompt of a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import msgspec

from stream.gateways.errors import InputError

MAX_PARTS = 16
MAX_INDEX = 63
"""A later element of an array is of no interest: a path names one value of each record."""

_PART = re.compile(r"""\.?([^.\[\]'"\s]+)|\[(?:'([^']+)'|"([^"]+)"|(\d+))\]""")

Part = str | int


@dataclass(frozen=True, slots=True)
class Path:
    """A path from the top of a JSON object to a value; its text as the user wrote it."""

    text: str
    parts: tuple[Part, ...]


def path_of(text: str) -> Path:
    """Raises InputError on what is no path.

    >>> path_of("$.request.headers['x-api.id'][0]").parts
    ('request', 'headers', 'x-api.id', 0)
    """
    parts: list[Part] = []
    rest = text.strip().removeprefix("$")
    if rest.startswith("."):
        rest = rest[1:]
    while rest:
        match = _PART.match(rest)
        if match is None or (not parts and match[0].startswith(".")):
            break
        plain, single, double, index = match.groups()
        if index is not None:
            if not parts or int(index) > MAX_INDEX:
                raise InputError(f"path {text!r}: an index follows a name and is at most {MAX_INDEX}")
            parts.append(int(index))
        else:
            parts.append(plain or single or double)
        rest = rest[match.end() :]
    if rest or not parts or len(parts) > MAX_PARTS:
        raise InputError(
            f"{text!r} is no path: write names with dots between them, such as usage.input_tokens; one that holds a "
            "dot goes in brackets and quotes: ['gen_ai.response.id']"
        )
    return Path(text, tuple(parts))


class Reader:
    """Reads the values at some paths, by name; for each name the first path counts that leads to something.

    >>> reader = Reader({"key": [path_of("auth.id"), path_of("who")]})
    >>> reader.read(reader.decode(b'{"auth": {"id": null}, "who": "k", "prompt": ["long"]}'))
    {'key': 'k'}
    """

    def __init__(self, wanted: Mapping[str, Sequence[Path]]) -> None:
        """Raises InputError where one path ends at what another one goes through, or takes an object for an array."""
        tree: dict[Part, Any] = {}
        for paths in wanted.values():
            for path in paths:
                node = tree
                for part in path.parts:
                    node = node.setdefault(part, {})
        for path in (path for paths in wanted.values() for path in paths):
            if reduce(lambda node, part: node[part], path.parts, tree):
                raise InputError(f"{path.text} is asked for a value, and another path looks inside it: leave one out")
        self.record = _struct(tree, "the record")
        self.decode: Callable[[bytes | msgspec.Raw], Any] = msgspec.json.Decoder(self.record).decode
        self.names = tuple(wanted)
        self._plans = [(name, [_getter(self.record, path) for path in paths]) for name, paths in wanted.items()]

    def read(self, record: Any) -> dict[str, Any]:
        """What is there, by name; a value at two paths is the first one's. `record` is what `decode` made."""
        found = {}
        for name, getters in self._plans:
            for get in getters:
                value = get(record)
                if value is not None and value != "" and value != "-":
                    found[name] = value
                    break
        return found


def _struct(tree: Mapping[Part, Any], where: str) -> Any:
    """The type of an object or array with these parts: a Struct, a list of them, or anything at a path's end."""
    if not tree:
        return Any
    names = [part for part in tree if isinstance(part, str)]
    if names and len(names) < len(tree):
        raise InputError(f"{where} is asked for a name and for an index: it is an object or an array, not both")
    if not names:
        inner: dict[Part, Any] = {}
        for part in tree.values():
            _merge(inner, part)
        element: Any = _optional(_struct(inner, f"{where}[…]"))
        return list[element] if inner else Any
    fields = [
        (f"f{index}", _optional(_struct(tree[name], f"{where}.{name}")), None) for index, name in enumerate(names)
    ]
    rename = {f"f{index}": name for index, name in enumerate(names)}
    return msgspec.defstruct("Part", fields, rename=rename, gc=False)


def _optional(kind: Any) -> Any:
    return kind if kind is Any else kind | None


def _merge(into: dict[Part, Any], other: Mapping[Part, Any]) -> None:
    for part, below in other.items():
        _merge(into.setdefault(part, {}), below)


def _getter(record: Any, path: Path) -> Callable[[Any], Any]:
    """A function from a decoded record to the value at a path, None if it leads nowhere."""
    steps: list[str | int] = []
    kind = record
    for part in path.parts:
        kind = _bare(kind)
        if kind is Any:  # an array whose elements are not looked into
            steps.append(part)
            continue
        if isinstance(part, int):
            steps.append(part)
            (kind,) = kind.__args__
        else:
            field = next(f for f in msgspec.structs.fields(kind) if f.encode_name == part)
            steps.append(field.name)
            kind = field.type
    if len(steps) == 1 and isinstance(steps[0], str):
        name = steps[0]
        return lambda value: getattr(value, name)
    return lambda value: reduce(_step, steps, value)


def _step(value: Any, step: str | int) -> Any:
    if value is None:
        return None
    if isinstance(step, int):
        return value[step] if isinstance(value, list) and step < len(value) else None
    return getattr(value, step)


def _bare(kind: Any) -> Any:
    """A type without its None."""
    members = [member for member in getattr(kind, "__args__", ()) if member is not type(None)]
    return members[0] if type(None) in getattr(kind, "__args__", ()) else kind
