"""Commands to paste into a shell. What they hold is untrusted: no character of it may end a word or run anything."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_QUOTED = re.compile(r"[A-Za-z0-9_@%+=:,./ #()*?\[\]{}~^|;\"$&<>-]+")
_RAW = re.compile(r"[A-Za-z0-9_@%+=:,. -]")


def shell_word(text: str) -> str:
    r"""A text as one word of bash, zsh or ksh: plain, in single quotes, or as `$'…'` with all else escaped.

    The last form has no quote, backtick, exclamation mark or backslash of the text's own, nor anything that is not
    ASCII: so a service that shows it as code cannot alter it, and it can be read. Raises ValueError for what no
    argument of a command can hold: a NUL, or half of a surrogate pair.

    >>> print(shell_word("key-17"), shell_word("a b; $(rm x)"), shell_word("it's `x`\u202e"))
    key-17 'a b; $(rm x)' $'it\x27s \x60x\x60\u202e'
    """
    if _PLAIN.fullmatch(text):
        return text
    if _QUOTED.fullmatch(text):
        return f"'{text}'"
    return "$'" + "".join(character if _RAW.match(character) else _escape(character) for character in text) + "'"


def _escape(character: str) -> str:
    code = ord(character)
    if code == 0 or 0xD800 <= code <= 0xDFFF:
        raise ValueError("no argument of a command can hold this text")
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def command_line(*words: str, last: str) -> str:
    """A command whose `last` word is no option, whatever it begins with; empty if a shell cannot be given it.

    >>> command_line("overdraw", "unblock", last="-x")
    'overdraw unblock -- -x'
    """
    try:
        return " ".join([*map(shell_word, words), *(["--"] if last.startswith("-") else []), shell_word(last)])
    except ValueError:
        return ""
