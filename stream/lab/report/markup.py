"""Untrusted text as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from stream.alerts import escaped


def text(value: object) -> str:
    r"""Text that is no markup, in an element or in a quoted attribute; no character of it is invisible or turns lines.

    >>> text("<b title='x'>\u202e\x1b")
    '&lt;b title=&#x27;x&#x27;&gt;\\u202e\\x1b'
    """
    return escape(escaped(str(value)), quote=True)


def name(value: object) -> str:
    """An id: by itself as far as the direction of writing goes, so that a Hebrew one does not turn what is beside it.

    >>> name("key-1")
    '<bdi class="id">key-1</bdi>'
    """
    return f'<bdi class="id">{text(value)}</bdi>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A list of labels and what they say, which is HTML; those that say nothing are left out."""
    lines = [f"<div><dt>{text(label)}</dt><dd>{said}</dd></div>" for label, said in rows if said]
    return f"<dl>{''.join(lines)}</dl>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table of HTML cells; `numbers` are the columns that are set to the right."""
    right = set(numbers)
    sign = ['<{0} class="n">' if i in right else "<{0}>" for i in range(len(head))]

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"{sign[i].format(tag)}{cell}</{tag}>" for i, cell in enumerate(cells)) + "</tr>"

    body = "\n".join(line("td", row) for row in rows)
    return f'<div class="wide"><table><thead>{line("th", head)}</thead><tbody>\n{body}\n</tbody></table></div>'
