"""Raw record to `Call`: one module a format. Nothing here keeps state about a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stream.gateways import overdraw
from stream.gateways.adapter import Options, Parse, Parser
from stream.gateways.apisix import Apisix
from stream.gateways.canonical import hidden
from stream.gateways.envoy import Envoy
from stream.gateways.errors import InputError, guess
from stream.gateways.kong import Kong
from stream.gateways.litellm import LiteLLM
from stream.gateways.mapping import Mapping
from stream.gateways.openai_usage import OpenAIUsage
from stream.gateways.otel import OTel
from stream.gateways.pseudonyms import Pseudonyms
from stream.settings import Settings


@dataclass(frozen=True, slots=True)
class Gateway:
    """A format: what it is, what makes its parser, and whether its records are rows under a header (files only).

    key_hint: what to do where its records do not say whose key it was
    """

    summary: str
    parser: Callable[[Options], Parse]
    rows: bool = False
    key_hint: str = ""


def _canonical(options: Options) -> Parse:
    return overdraw.parse


GATEWAYS: dict[str, Gateway] = {
    "overdraw": Gateway("one JSON object per call, or an array of them, with the names of ApiCall", _canonical),
    "litellm": Gateway(
        "LiteLLM's StandardLoggingPayload, or its spend logs", lambda o: Parser(LiteLLM(), o), key_hint=LiteLLM.key_hint
    ),
    "otel": Gateway(
        "OTLP JSON: spans and logs with GenAI attributes", lambda o: Parser(OTel(o)), key_hint=OTel.key_hint
    ),
    "apisix": Gateway(
        "APISIX's logger plugins with ai-proxy's summary", lambda o: Parser(Apisix(), o), key_hint=Apisix.key_hint
    ),
    "kong": Gateway("Kong's logging plugins with ai-proxy", lambda o: Parser(Kong(), o), key_hint=Kong.key_hint),
    "envoy": Gateway("Envoy AI Gateway's JSON access log", lambda o: Parser(Envoy(), o), key_hint=Envoy.key_hint),
    "openai-usage": Gateway(
        "answers of OpenAI's organization usage API", lambda o: Parser(OpenAIUsage()), key_hint=OpenAIUsage.key_hint
    ),
    "mapping": Gateway(
        "any other JSON, by a mapping file of paths", lambda o: Parser(Mapping(o)), key_hint=Mapping.key_hint
    ),
    # a row becomes a canonical object first (stream/gateways/csv.py): there is one judge of what a call may say
    "csv": Gateway("a header with the names of ApiCall, or --map FIELD=COLUMN", _canonical, rows=True),
}
"""Name of a format (`--format`) to its gateway."""


def gateway(name: str) -> Gateway:
    """The gateway of a format; raises InputError that names the known ones.

    >>> gateway("csv").rows
    True
    """
    if name not in GATEWAYS:
        raise InputError(f"unknown format {name!r}: {guess(name.lower(), GATEWAYS)}Known are {', '.join(GATEWAYS)}")
    return GATEWAYS[name]


def options_of(settings: Settings) -> Options:
    """What the settings say of the intake's format. Raises InputError."""
    return Options(_names(settings.intake_key_from), _names(settings.intake_org_from), settings.mapping_text)


def pseudonyms_of(settings: Settings) -> Pseudonyms | None:
    """What hides the ids, if that is wanted."""
    secret = settings.pseudonym_secret
    return Pseudonyms(secret) if secret is not None else None


def parser_of(settings: Settings) -> Parse:
    """The parser of what the intake topic holds, hiding ids if that is wanted. Raises InputError on a bad mapping."""
    parse = gateway(settings.intake_format).parser(options_of(settings))
    pseudonyms = pseudonyms_of(settings)
    return hidden(parse, pseudonyms) if pseudonyms is not None else parse


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name for part in (text or "").split(",") if (name := part.strip()))
