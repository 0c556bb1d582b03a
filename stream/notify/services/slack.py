"""Slack, by an incoming webhook: a message of blocks.

It has no dedupe key and nothing can be changed in what was sent, so it hears of an incident when it opens, when it
becomes a page that no pager tells of, and when it is over. What others may have written stands in plain text objects,
where no character is markup; `&`, `<` and `>` are escaped as Slack asks for, so that no id can mention a channel or
make a link.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from stream.notify.config import Secrets, SlackConfig
from stream.notify.digest import Digest
from stream.notify.message import Fact, Link, Message
from stream.notify.service import Request, cut

OF_THE_ADDRESS = frozenset({b"invalid_token", b"no_active_hooks", b"no_service", b"no_service_id", b"no_team"})
"""Errors of an incoming webhook that is gone or was never there."""
MAX_HEADER = 150
MAX_TEXT = 3000
MAX_FIELD = 2000
MAX_FIELDS = 10
MARKS = {"resolved": "✅", "critical": "🔴", "high": "🔴", "warning": "🟠", "info": "🔵"}


def escape(text: str) -> str:
    """Slack's three control characters as entities.

    >>> escape("<!channel> & co")
    '&lt;!channel&gt; &amp; co'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escaped_cut(text: str, limit: int) -> str:
    """Escaped text of at most `limit` characters, which does not end within an entity."""
    while len(escaped := escape(text)) > limit:
        text = cut(text, max(1, len(text) - max(1, (len(escaped) - limit) // 5)))
    return escaped


def plain(text: str, limit: int) -> dict[str, Any]:
    """A plain text object, in which nothing is markup and no `:name:` an emoji."""
    return {"type": "plain_text", "text": escaped_cut(text, limit) or "–", "emoji": False}


def link(one: Link) -> str:
    """A link in mrkdwn; its address may not end it early."""
    return f"<{quote(one.url, safe=_URL_SAFE)}|{escape(one.label)}>"


_URL_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "<>|&") + "&"


class Slack:
    """See the module."""

    type: ClassVar[str] = "slack"
    dedupes: ClassVar[bool] = False
    every_update: ClassVar[bool] = False
    resend_seconds: ClassVar[float | None] = None

    def __init__(self, config: SlackConfig, secrets: Secrets) -> None:
        self._url = secrets["url"]

    def alert(self, message: Message, now: float) -> Request:
        """See `Notifier`."""
        alert = message.alert
        mark = MARKS["resolved" if alert.status == "resolved" else alert.severity]
        facts = message.facts()
        blocks = [*_blocks(f"{mark} {message.title}", facts)]
        # no command holds a backtick, or anything else that Slack would change
        lines = [f"{command.label}: `{escape(command.text)}`" for command in message.commands()]
        while len(text := "\n".join([*lines, " · ".join(map(link, message.links()))]).strip()) > MAX_TEXT:
            lines.pop()  # half a command is worse than none
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}})
        return self._post(message.title, blocks)

    def digest(self, digest: Digest, now: float) -> Request:
        """See `Notifier`."""
        mark = MARKS["resolved" if digest.open_count == 0 and not digest.opened else digest.worst]
        text = plain("\n".join(digest.lines()), MAX_TEXT)
        blocks = [*_blocks(f"{mark} {digest.title}", []), {"type": "section", "text": text}]
        return self._post(digest.title, blocks)

    def firing(self, messages: Sequence[Message], now: float) -> Request:
        """See `Notifier`."""
        raise NotImplementedError("a Slack message stays")

    def accepted(self, status: int, body: bytes) -> bool:
        """See `Notifier`: the answer is the word `ok`."""
        return status == 200 and body.strip() == b"ok"

    def misconfigured(self, status: int, body: bytes) -> bool:
        """See `Notifier`: the answer is the name of an error."""
        return status == 400 and body.strip() in OF_THE_ADDRESS

    def _post(self, text: str, blocks: list[dict[str, Any]]) -> Request:
        body = {"text": escaped_cut(text, MAX_TEXT), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return Request(self._url.get_secret_value(), json.dumps(body).encode(), headers)


def _blocks(title: str, facts: Sequence[Fact]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "header", "text": plain(title, MAX_HEADER)}]
    if len(escape(title)) > MAX_HEADER:
        blocks.append({"type": "section", "text": plain(title, MAX_TEXT)})
    if facts:
        fields = [plain(f"{fact.label}: {fact.text}", MAX_FIELD) for fact in facts[:MAX_FIELDS]]
        blocks.append({"type": "section", "fields": fields})
    return blocks
