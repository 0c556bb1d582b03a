"""The one error of the embedded broker."""

from __future__ import annotations


class BrokerError(RuntimeError):
    """The embedded Kafka cannot be prepared, started or kept running; the message says what to do."""
