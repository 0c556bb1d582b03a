"""Pseudonyms of ids by a keyed hash (HMAC-SHA-256), for who must not keep the ids of customers in topics and alerts."""

from __future__ import annotations

import hmac
from base64 import b32encode
from functools import lru_cache

from stream.events import Call

LEAST_KEY_BYTES = 16
KNOWN_IDS = 131_072
"""Ids whose pseudonyms are remembered, at most 60 MB."""
DIGEST_BYTES = 15
"""120 bits: among a billion ids, the chance that any two meet is below 10⁻¹⁸."""


class Pseudonyms:
    """The pseudonyms that one secret gives. An id has another one as a key, as an organisation and as a user.

    Each begins with four hex digits that tell the secret, so that those of an earlier secret are known as such.

    >>> hidden = Pseudonyms(b"an example of 16+ bytes")
    >>> hidden.of("key", "key-17"), hidden.of("user", "key-17")
    ('7d91-4fucwd3nfcpyg2upws6ntnod', '7d91-26aub7eoogg7ceh5kpfimb4u')
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < LEAST_KEY_BYTES:
            raise ValueError(
                f"the key of the pseudonyms has {len(secret)} bytes: make one of at least {LEAST_KEY_BYTES}, such as "
                "by `openssl rand -hex 32`"
            )
        self.tag = hmac.digest(secret, b"overdraw pseudonyms", "sha256").hex()[:4]
        prefix = self.tag + "-"

        @lru_cache(maxsize=KNOWN_IDS)
        def of(role: str, text: str) -> str:
            digest = hmac.digest(secret, f"{role}\0{text}".encode("utf-8", "replace"), "sha256")
            return prefix + b32encode(digest[:DIGEST_BYTES]).decode().lower()

        self.of = of
        """The pseudonym of an id (text) in its role: `key`, `org` or `user`."""

    def hide(self, call: Call) -> None:
        """Put the pseudonyms in the place of a call's ids."""
        call.key_id = self.of("key", call.key_id)
        if call.org_id is not None:
            call.org_id = self.of("org", call.org_id)
        if call.user_id is not None:
            call.user_id = self.of("user", call.user_id)


ROLES = {"key_id": "key", "org_id": "org", "user_id": "user"}
"""Field of an id to its role."""
