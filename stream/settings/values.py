"""What the value of a setting may be: the types that several settings share, or that need more than a line."""

from __future__ import annotations

import difflib
import os
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr


def cache_dir() -> str:
    """The folder for the caches of this user."""
    return str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overdraw")


def zone_of(name: str) -> tzinfo:
    """The zone of an IANA name. Raises KeyError, ValueError or OSError."""
    return UTC if name == "UTC" else ZoneInfo(name)


MAX_COMPOSITES = 8
"""Each makes every key a member of one more group."""


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _absolute(value: str | None) -> str | None:
    # a process that is handed these settings may work in another folder
    return None if value is None else str(Path(value).absolute())


def _divides_an_hour(value: int) -> int:
    if 3600 % value:
        raise ValueError("must divide 3600, such as 60, 300 or 600")
    return value


def _hosts_and_ports(value: str) -> str:
    for server in value.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError("must be host:port, or several separated by commas")
        if "@" in host:
            raise ValueError("must be host:port alone: the user is kafka_username, the password kafka_password")
    return ",".join(server.strip() for server in value.split(","))


def _joins_traits(composites: str) -> str:
    known = ("org", "network", "asn", "client", "template", "model")
    joined = [names.strip() for names in composites.split(",") if names.strip()]
    for names in joined:
        parts = names.split("+")
        if len(parts) < 2 or len(set(parts)) < len(parts) or not set(parts) <= set(known):
            raise ValueError(f"must join two or more of {', '.join(known)} by +, such as network+client")
    if len(joined) > MAX_COMPOSITES:
        raise ValueError(f"must name at most {MAX_COMPOSITES}")
    return ",".join(dict.fromkeys(joined))


def _zone_exists(name: str) -> str:
    try:
        zone_of(name)
    except (KeyError, ValueError, OSError):  # not found, not a name, a folder of zones
        raise ValueError(_unknown_zone(name)) from None
    return name


def _unknown_zone(name: str) -> str:
    names = {zone.lower(): zone for zone in available_timezones()}
    # the city alone is what people write first
    cities = {zone.rpartition("/")[2]: zone for zone in names}
    wanted = name.strip().lower().replace(" ", "_")
    near = [wanted] if wanted in names else difflib.get_close_matches(wanted, names, n=3)
    near += [zone for city in difflib.get_close_matches(wanted, cities, n=3) if (zone := cities[city]) not in near]
    return f"there is no time zone {name[:80]!r}: " + (
        f"did you mean {' or '.join(names[zone] for zone in near[:3])}?" if near else "name one such as Europe/Berlin"
    )


IntakeFormat = Literal["overdraw", "litellm", "otel", "apisix", "kong", "envoy", "openai-usage", "mapping"]
Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
OptionalTopic = Annotated[Topic | None, BeforeValidator(_none_if_empty)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_empty)]
OptionalPaths = Annotated[Annotated[str, Field(max_length=2000)] | None, BeforeValidator(_none_if_empty)]
"""Where in a record something is said."""
OptionalFile = Annotated[str | None, BeforeValidator(_none_if_empty), AfterValidator(_absolute)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]
BucketSeconds = Annotated[int, Field(ge=10, le=3600), AfterValidator(_divides_an_hour)]
Composites = Annotated[str, AfterValidator(_joins_traits)]
TimeZone = Annotated[str, AfterValidator(_zone_exists)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
Broker = Annotated[str, AfterValidator(_hosts_and_ports)]
KafkaProtocol = Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)]
SaslMechanism = Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_upper)]
KafkaUser = Annotated[
    Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,300}$")] | None, BeforeValidator(_none_if_empty)
]
