"""Any receiver of CloudEvents 1.0 over HTTP, structured JSON. `source` + `id` is unique and the same at every attempt.

With a secret each request carries `Overdraw-Signature: t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`, the time in
it so that a recorded request can be told from a new one. Check it in constant time, and refuse what is older than five
minutes:

>>> signature(b"secret", b"{}", 1772323200)
't=1772323200,v1=a48e46053abfa81476218beec39a2bea3c5f30dcdece6da7f94c5eeb28fede6c'
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, ClassVar

from stream.alerts import rfc3339
from stream.notify.config import Secrets, WebhookConfig
from stream.notify.digest import Digest
from stream.notify.message import Message
from stream.notify.service import Request, is_2xx

SIGNATURE = "Overdraw-Signature"


def signature(secret: bytes, body: bytes, now: float) -> str:
    """The value of the signature's header."""
    seconds = str(int(now))
    return f"t={seconds},v1={hmac.new(secret, seconds.encode() + b'.' + body, sha256).hexdigest()}"


class Webhook:
    """See the module."""

    type: ClassVar[str] = "webhook"
    dedupes: ClassVar[bool] = True
    every_update: ClassVar[bool] = True
    resend_seconds: ClassVar[float | None] = None

    def __init__(self, config: WebhookConfig, secrets: Secrets) -> None:
        self._url = config.url if config.url is not None else secrets["url"].get_secret_value()
        self._secret = secrets.get("secret")
        self._token = secrets.get("bearer_token")

    def alert(self, message: Message, now: float) -> Request:
        """See `Notifier`."""
        alert = message.alert
        return self._post(
            {
                "specversion": "1.0",
                "id": message.event_id,
                "type": f"overdraw.alert.{alert.status}",
                "source": message.source,
                "subject": alert.fingerprint,
                "time": rfc3339(alert.updated_at),
                "datacontenttype": "application/json",
                "data": alert.model_dump(mode="json"),
            },
            now,
        )

    def digest(self, digest: Digest, now: float) -> Request:
        """See `Notifier`."""
        return self._post(
            {
                "specversion": "1.0",
                "id": f"{digest.key}-{digest.at:.3f}",
                "type": "overdraw.digest",
                "source": f"/overdraw/{digest.app_id}/{digest.partition}",
                "time": rfc3339(digest.at),
                "datacontenttype": "application/json",
                "data": digest.json(),
            },
            now,
        )

    def firing(self, messages: Sequence[Message], now: float) -> Request:
        """See `Notifier`."""
        raise NotImplementedError("an event is told once")

    def accepted(self, status: int, body: bytes) -> bool:
        """See `Notifier`."""
        return is_2xx(status)

    def misconfigured(self, status: int, body: bytes) -> bool:
        """See `Notifier`: it has other statuses for that."""
        return False

    def _post(self, event: dict[str, Any], now: float) -> Request:
        body = json.dumps(event).encode()
        headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret.get_secret_value().encode(), body, now)
        return Request(self._url, body, headers)
