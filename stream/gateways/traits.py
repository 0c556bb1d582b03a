"""What links keys to one another, derived here and nowhere else: network of an address, client, prompt template.

What they are made from is personal (an address), long (a user agent) or nobody's business (a template's text, if a
gateway sends that in place of its hash), so nothing behind this module sees it. Each function leaves its own results as
they are: a record that has been through here may come through again.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from stream.events import Call

KNOWN_ADDRESSES = 65_536
"""Addresses whose network is remembered, some 10 MB: to work it out takes as long as everything else of a record."""
KNOWN_TEXTS = 4_096
"""User agents, and template hashes, that are remembered."""
LONGEST_ADDRESSES, LONGEST_TEXT = 128, 1024
"""What is longer is worked out each time: a client may send what it likes, and must not fill the memory with it."""
FAMILIES = (
    "openai-python", "openai-node", "openai-go", "openai-java", "openai", "anthropic", "litellm", "langchain",
    "llama-index", "azure", "google-genai", "mistral", "cohere", "vercel", "ai-sdk", "python-requests", "httpx",
    "aiohttp", "python-urllib", "python", "axios", "undici", "node", "bun", "deno", "curl", "wget", "okhttp",
    "apache-httpclient", "java", "go-http-client", "go-resty", "reqwest", "ruby", "guzzle", "dart", "postman",
    "insomnia", "mozilla",
)  # fmt: skip
"""Clients that are named in a fingerprint; of any other nothing is shown, for a user agent may hold anything."""

_CLIENT = re.compile(r"[a-z][a-z-]{1,20}-[0-9a-f]{12}")
_TEMPLATE = re.compile(r"template-[0-9a-f]{16}")
_JOINT = re.compile(r"[/\s_.]+")


Trait = Callable[[str], str | None]


class _Remembered(dict[str, str | None]):
    """The traits of up to `most` texts, each of at most `longest` characters; asked for one, it works it out.

    A dictionary, for it is asked for every call. Full, it begins anew: who sends made-up texts costs the others one
    look each.
    """

    def __init__(self, trait: Trait, most: int, longest: int) -> None:
        super().__init__()
        self._trait, self._most, self._longest = trait, most, longest

    def __missing__(self, text: str) -> str | None:
        trait = self._trait(text)
        if len(text) <= self._longest:
            if len(self) >= self._most:
                self.clear()
            self[text] = trait
        return trait


def network_of(address: str) -> str | None:
    """An address cut to its network, /24 or /48; None if it is none. A network stays what it is.

    >>> network_of("192.0.2.77"), network_of("2001:db8:1:2::3"), network_of("here")
    ('192.0.2.0/24', '2001:db8:1::/48', None)
    >>> network_of("192.0.2.0/24")
    '192.0.2.0/24'
    """
    return _NETWORKS[address]


def _network(address: str) -> str | None:
    try:
        ip = ipaddress.ip_interface(address.strip().partition("%")[0]).ip
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))


_NETWORKS = _Remembered(_network, KNOWN_ADDRESSES, LONGEST_ADDRESSES)


def network_of_hops(addresses: str) -> str | None:
    """The network of the client in a list of hops such as `X-Forwarded-For`; a port behind an address is left out.

    The last public address counts: what stands before it was said by the client and may be made up. Where none is
    public it is the last.

    >>> network_of_hops("203.0.113.7, 8.8.4.4, 10.0.0.3"), network_of_hops("10.0.0.3:1234"), network_of_hops("-")
    ('8.8.4.0/24', '10.0.0.0/24', None)
    """
    return _HOP_NETWORKS[addresses]


def _hop_network(addresses: str) -> str | None:
    last = None
    for hop in reversed(addresses.rsplit(",", 16)[-16:]):  # a client may send thousands
        text = hop.strip()
        if text.startswith("["):
            text = text[1:].partition("]")[0]
        elif text.count(":") == 1:
            text = text.partition(":")[0]
        network = network_of(text)
        if network is not None:
            if ipaddress.ip_network(network).is_global:
                return network
            last = last or network
    return last


_HOP_NETWORKS = _Remembered(_hop_network, KNOWN_ADDRESSES, LONGEST_ADDRESSES)


def client_of(user_agent: str) -> str | None:
    """The fingerprint of a user agent: its family, if it is a known one, and a hash of the whole; None of an empty one.

    >>> client_of("OpenAI/Python 1.40.0"), client_of("my secret tool"), client_of(" ")
    ('openai-python-07a10f031551', 'client-6e1632bcd8e4', None)
    """
    return _CLIENT_NAMES[user_agent]


def _client_name(user_agent: str) -> str | None:
    text = " ".join(user_agent.lower().split())
    if not text:
        return None
    if _CLIENT.fullmatch(text):
        return text
    start = _JOINT.sub("-", text[:64]).removeprefix("async")
    family = next((name for name in FAMILIES if start.startswith(name)), "client")
    return f"{family}-{sha256(text.encode('utf-8', 'replace')).hexdigest()[:12]}"


_CLIENT_NAMES = _Remembered(_client_name, KNOWN_TEXTS, LONGEST_TEXT)


def template_of(prompt_fingerprint: str) -> str | None:
    """Our hash of the gateway's hash of a prompt template, so that a prompt sent in its place goes no further.

    >>> template_of("a1b2c3"), template_of(template_of("a1b2c3")) == template_of("a1b2c3"), template_of("")
    ('template-4f32044a655f32e8', True, None)
    """
    return _TEMPLATE_NAMES[prompt_fingerprint]


def _template_name(prompt_fingerprint: str) -> str | None:
    if not prompt_fingerprint:
        return None
    if _TEMPLATE.fullmatch(prompt_fingerprint):
        return prompt_fingerprint
    return f"template-{sha256(prompt_fingerprint.encode('utf-8', 'replace')).hexdigest()[:16]}"


_TEMPLATE_NAMES = _Remembered(_template_name, KNOWN_TEXTS, LONGEST_TEXT)


def if_text(function: Callable[[str], str | None]) -> Callable[[Any], str | None]:
    """The same function for whatever a record holds: of what is no text it makes nothing."""
    return lambda value: function(value) if isinstance(value, str) else None


network_in, client_in, template_in = if_text(network_of_hops), if_text(client_of), if_text(template_of)
"""The traits of whatever stands where a record of another format has them."""

REDUCED = {"client_ip": network_of, "user_agent": client_of, "prompt_fingerprint": template_of}
"""Field to what makes a trait of it."""


def reduce_traits(call: Call) -> None:
    """Put the traits of a call in the place of what they are made from."""
    address, user_agent, fingerprint = call.client_ip, call.user_agent, call.prompt_fingerprint
    if address is not None:
        call.client_ip = _NETWORKS[address]
    if user_agent is not None:
        call.user_agent = _CLIENT_NAMES[user_agent]
    if fingerprint is not None:
        call.prompt_fingerprint = _TEMPLATE_NAMES[fingerprint]
