"""What a message says of an alert: who, what, how much, since when, what is gone, how sure, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from stream.alerts import Alert, printable, rfc3339, yardstick_of
from stream.notify.config import url_problem
from stream.notify.shell import command_line

MAX_ID = 128
MAX_LINE = 500
MAX_CHANNELS = 9
MAX_URL = 2000
RAREST = 1e-6
"""Below it a chance is a matter of the law's tail: it is said to be less, and not how much."""
BLOCK_FOR = "2h"
"""Long enough to ask the owner, and it ends by itself."""
KINDS = {
    "surge": "many times its usual tokens within minutes to hours",
    "drift": "a level above its usual one that lasts",
    "ramp": "a level that rises day by day",
    "newcomer": "a new key that starts far above other keys",
    "quiet_hours": "use in hours that it hardly ever uses",
    "shape": "calls unlike its own",
    "campaign": "many keys that move together",
    "pivot": "a group that moves to another model",
    "respawn": "a blocked key's traffic under a new key",
    "feed": "the detector itself is blind",
}


class Fact(NamedTuple):
    """One line of a message: a short label, and its text, which is printable and bounded."""

    label: str
    text: str


class Command(NamedTuple):
    """What to paste into a shell: a label, and the command, in which ids are quoted."""

    label: str
    text: str


class Link(NamedTuple):
    """Where to go from here: a label and an http(s) address."""

    label: str
    url: str


def amount(value: float, unit: str = "") -> str:
    """A figure for people, three digits.

    >>> amount(105_180, "tokens"), amount(2_319), amount(0.4)
    ('105 k tokens', '2.32 k', '0.4')
    """
    words = f"{value:.3g}"
    for name, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * 0.9995:
            words = f"{value / size:.3g} {name}"
            break
    return f"{words} {unit}".strip()


def rarity(chance: float) -> str:
    """How often a clean day shows what has so small a chance: the law of the tail tells no more than one in a million.

    >>> rarity(0.001), rarity(1e-33), rarity(0.0)
    ('one day in 1 k', 'one day in a million, or less', 'one day in a million, or less')
    """
    return f"one day in {amount(1 / chance)}" if chance >= RAREST else "one day in a million, or less"


def length(seconds: float) -> str:
    """A stretch of time in its largest fitting unit.

    >>> length(300), length(5400), length(172_800), length(20)
    ('5 min', '1.5 h', '2 days', '20 s')
    """
    for name, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size * (2 if name == "days" else 1):
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {name}"
    return f"{seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Message:
    """An alert and what is said of it. All text is printable: ids are escaped and cut; a service adds its own escapes.

    `source` is the CloudEvents source of the alert's record, `owner` who owns the key, `silence_base` the address of
    the Alertmanager that can silence it, None without one.
    """

    alert: Alert
    source: str
    owner: str | None = None
    silence_base: str | None = None

    @property
    def event_id(self) -> str:
        """Unique and the same at every attempt: the id of the CloudEvent."""
        return f"{self.alert.alert_id}:{self.alert.sequence}"

    @property
    def who(self) -> str:
        """The entity, such as `key key-17`."""
        return f"{self.alert.entity.type} {printable(self.alert.entity.id, MAX_ID)}"

    @property
    def title(self) -> str:
        """One line: how bad, what became of it, and the alert's own summary."""
        alert = self.alert
        word = "resolved" if alert.status == "resolved" else alert.severity.upper()
        return f"[{word}] {printable(alert.summary, 300)}"

    def facts(self) -> list[Fact]:
        """The lines of the message, most important first."""
        return [Fact(label, printable(text, MAX_LINE)) for label, text in self._facts() if text]

    def _facts(self) -> Iterator[tuple[str, str]]:
        alert = self.alert
        owner = f" (owner: {printable(self.owner, MAX_ID)})" if self.owner is not None else ""
        yield "Who", f"{self.who}{owner}"
        yield "What", f"{alert.kind}: {KINDS[alert.kind]}"
        yield "How much", self._how_much()
        yield "Since", self._since()
        yield "Gone", self._gone()
        yield "Channels", ", ".join(f"{channel.name} z {channel.z:.1f}" for channel in alert.channels[:MAX_CHANNELS])
        yield "Confidence", self._confidence()
        yield "Why " + alert.severity, alert.severity_reason
        yield "Do", alert.suggested_action

    def _how_much(self) -> str:
        alert = self.alert
        text = f"{amount(alert.observed, alert.unit)} in {length(alert.window.horizon_seconds)}"
        text += f", usual {'of new keys ' if alert.kind == 'newcomer' else ''}are {amount(alert.expected)}"
        if alert.expected < alert.upper < alert.observed:
            text += f", at most {amount(alert.upper)}"
        return text + (f": {amount(alert.ratio)} ×" if alert.ratio is not None else "")

    def _since(self) -> str:
        alert = self.alert
        end = alert.resolved_at if alert.resolved_at is not None else alert.updated_at
        lasted = f", {length(max(0.0, end - alert.started_at))} so far"
        if alert.status == "resolved":
            lasted = f", over at {rfc3339(end)} after {length(max(0.0, end - alert.started_at))}"
        return f"{rfc3339(alert.started_at)}{lasted}"

    def _gone(self) -> str:
        alert = self.alert
        if alert.kind == "feed":
            return ""
        text = f"{amount(alert.excess_tokens, 'tokens')} above {yardstick_of(alert.kind)}"
        text += f" ({amount(alert.excess_output_tokens)} of them output), {amount(alert.excess_per_hour)} an hour"
        return text + (f", {alert.excess_cost_usd:,.2f} USD" if alert.excess_cost_usd is not None else "")

    def _confidence(self) -> str:
        alert = self.alert
        if alert.kind == "feed":
            return ""
        chance = alert.false_alarm_probability
        text = f"a clean {alert.entity.type} shows this on {rarity(chance)}"
        if alert.baseline is not None:
            days = alert.baseline.active_days
            own = f"baseline of {days} active days" if alert.kind != "newcomer" else f"a key of {days} active days"
            text += f"; {own}"
        if alert.data_quality.missing_usage > 0.01:
            text += f"; {alert.data_quality.missing_usage:.0%} of the calls without token counts"
        return text + ("; found in a backlog" if alert.historical else "")

    def commands(self) -> list[Command]:
        """What to paste into a shell: to know more, to stop it, and to undo that."""
        alert = self.alert
        if alert.kind == "feed":
            return [Command("Look", "overdraw check --live")]
        found = [Command("Look", command_line("overdraw", "explain", last=alert.alert_id))]
        if alert.entity.type == "key":
            why = f"alert {alert.alert_id}"
            block = command_line("overdraw", "block", "--for", BLOCK_FOR, "--why", why, last=alert.entity.id)
            if alert.status != "resolved":
                found.append(Command(f"Block for {BLOCK_FOR}", block))
            found.append(Command("Undo", command_line("overdraw", "unblock", "--why", why, last=alert.entity.id)))
        return [command for command in found if command.text]

    def links(self) -> list[Link]:
        """Dashboard, runbook and silence, those that there are; nothing but http and https."""
        links = self.alert.links
        silence = links.silence
        if silence is None and self.silence_base is not None and self.alert.status != "resolved":
            silence = silence_url(self.silence_base, self.alert.fingerprint)
        named = (("Dashboard", links.dashboard), ("Runbook", links.runbook), ("Silence", silence))
        return [Link(label, url) for label, url in named if url is not None and is_link(url)]

    def text(self) -> str:
        """All of it as plain lines, for a terminal."""
        lines = [self.title, *(f"  {fact.label}: {fact.text}" for fact in self.facts())]
        lines += [
            *(f"  {command.label}: {command.text}" for command in self.commands()),
            *(f"  {link.label}: {link.url}" for link in self.links()),
        ]
        return "\n".join(lines)


def is_link(url: str) -> bool:
    """Whether an address may stand in a message: a worker without settings gives none, and nobody else's do."""
    return len(url) <= MAX_URL and url_problem(url.partition("#")[0]) is None and url.isascii() and url.isprintable()


def silence_url(base: str, fingerprint: str) -> str:
    """Alertmanager's page for a new silence, filled in with the one label that no other incident has.

    >>> silence_url("http://127.0.0.1:9093", "ab12")
    'http://127.0.0.1:9093/#/silences/new?filter=%7Bfingerprint%3D%22ab12%22%7D'
    """
    escaped = fingerprint.replace("\\", "\\\\").replace('"', '\\"')
    text = '{fingerprint="' + escaped + '"}'
    return f"{base}/#/silences/new?filter={quote(text, safe='')}"
