"""What a gateway's values become: texts, counts and times as `ApiCall` has them.

What a caller can choose freely (a user's name, a limit, a user agent) never costs the call: if it will not do, it is
shortened or left out. Otherwise a client could hide its use behind one odd value. What the gateway itself says, such as
the counts, the time and the ids, is passed on as it is, for the judge to refuse.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, tzinfo
from hashlib import sha256
from typing import Any

from stream.events import MAX_TOKENS

MAX_NAME = 256
MAX_EVENT_ID = 128
MAX_DIGITS = 18
MAX_COST_USD = 1e9
SECRET_PREFIXES = ("sk-", "Bearer ", "bearer ", "Basic ")
FIRST_FAILURE = 400


def clean(text: str) -> str:
    """The text without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def name(value: Any, most: int = MAX_NAME) -> str | None:
    """A text or a number as an id or a name; None of what is none, of an empty text and of the `-` of log files.

    One that is too long becomes its hash: cut, two of them could become one.

    >>> name("acme"), name(17), name("-"), name(["x"])
    ('acme', '17', None, None)
    """
    if isinstance(value, str):
        if value in ("", "-"):
            return None
        text = value if value.isascii() else clean(value)
        return text if len(text) <= most else "sha256:" + sha256(text.encode()).hexdigest()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MAX_DIGITS:
        return str(value)
    return None


def key(value: Any) -> str | None:
    """The id of a key. What looks like the secret itself becomes its SHA-256, which is what LiteLLM calls a key by.

    >>> key("key-17"), key("Bearer sk-1")
    ('key-17', '0f2c10bf3d128c719c6bfa4ecbae94b7fceebaea6e4438fef38a90e5acc326f3')
    """
    text = name(value)
    if text is not None and text.startswith(SECRET_PREFIXES):
        return sha256(text.rpartition(" ")[2].encode()).hexdigest()
    return text


def event_id(first: Any, second: Any = None) -> str | None:
    """The id of an event from the parts that tell it from others; None if there are none.

    >>> event_id("chatcmpl-1", "c-9"), event_id("a", "a"), event_id(None)
    ('chatcmpl-1/c-9', 'a', None)
    """
    one, other = name(first), name(second)
    text = one or other if one is None or other is None or one == other else f"{one}/{other}"
    return text if text is None or len(text) <= MAX_EVENT_ID else name(text, MAX_EVENT_ID)


def count(value: Any) -> Any:
    """A number of things, also spelt as text or with a point; None of nothing and of `-`. All else stays as it is.

    >>> count("1240"), count(12.0), count("-"), count("many"), count(1.5)
    (1240, 12, None, 'many', 1.5)
    """
    if type(value) is int or value is None:
        return value
    if isinstance(value, str):
        if value.isdigit() and value.isascii() and len(value) <= MAX_DIGITS:
            return int(value)
        text = value.strip()
        if text in ("", "-"):
            return None
        if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= MAX_DIGITS:
            return int(text)
        return _whole(number(text), value)
    return _whole(value, value)


def _whole(found: Any, otherwise: Any) -> Any:
    if isinstance(found, float) and found.is_integer() and abs(found) < 10**MAX_DIGITS:
        return int(found)
    return otherwise


def limit(value: Any) -> int | None:
    """A limit of tokens that the caller set; None of what cannot be one."""
    found = count(value)
    return found if type(found) is int and 1 <= found <= MAX_TOKENS else None


def status(value: Any) -> int | None:
    """An HTTP status, None of what cannot be one."""
    found = count(value)
    return found if type(found) is int and 0 <= found <= 999 else None


def number(value: Any) -> float | None:
    """A finite number, also spelt as text; None of all else.

    >>> number("2.5"), number(3), number("-"), number("nan")
    (2.5, 3.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and (len(value) > 64 or "_" in value):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def amount(value: Any, times: float = 1.0, most: float = 1e12) -> float | None:
    """A number that is not negative, such as a duration, in units of `times`; None of all else."""
    found = number(value)
    if found is None:
        return None
    found *= times
    return found if 0 <= found <= most else None


def moment(value: Any, unit: float = 1.0, zone: tzinfo = UTC) -> Any:
    """Epoch seconds of a number in units of `unit` seconds, or of an ISO text, in `zone` if it names none.

    None of nothing and of `-`; what is no time stays as it is.

    >>> moment(1_700_000_000_250, 0.001), moment("2025-01-24 09:20:46.5"), moment("2025-01-24T09:20:46.5+01:00")
    (1700000000.25, 1737710446.5, 1737706846.5)
    >>> moment("1700000000250", 0.001), moment("noon"), moment("-")
    (1700000000.25, 'noon', None)
    """
    if isinstance(value, str):
        if value.isdigit() and value.isascii() and len(value) <= 2 * MAX_DIGITS:
            return int(value) * unit
        text = value.strip()
        if text in ("", "-"):
            return None
        found = number(text)
        if found is None:
            try:
                when = datetime.fromisoformat(text.upper())
                return (when if when.tzinfo is not None else when.replace(tzinfo=zone)).timestamp()
            except (ValueError, OverflowError):
                return value
    else:
        found = number(value)
        if found is None:
            return value
    return found * unit


def usage(given: Any, taken: Any, *, answered: bool) -> tuple[Any, Any]:
    """Input and output tokens. An answer of nothing to nothing is none: such a gateway did not know.

    Several gateways write zeros for a stream whose usage never came, and nobody gets an answer for no tokens at all.

    >>> usage(0, 0, answered=True), usage(0, 0, answered=False), usage(None, 5, answered=True)
    ((None, None), (0, 0), (None, 5))
    """
    found = count(given), count(taken)
    return (None, None) if answered and found == (0, 0) else found


def answered(code: int | None) -> bool:
    """Whether a call with this HTTP status had an answer."""
    return code is None or code < FIRST_FAILURE


def said(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what is not said: the judge then names what is missing."""
    return {field: value for field, value in document.items() if value is not None}
