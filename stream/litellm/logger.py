"""What LiteLLM calls: its payload to an event, the event to the delivery. Whatever fails is counted, never raised."""

from __future__ import annotations

import atexit
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from stream.gateways import pseudonyms_of
from stream.gateways.adapter import Parser
from stream.gateways.canonical import canonical
from stream.gateways.litellm import LiteLLM
from stream.gateways.scalars import name
from stream.litellm.delivery import Delivery
from stream.partition import key_bytes
from stream.security import client_options
from stream.settings import Settings, load_settings

FOREVER = float("inf")

log = logging.getLogger("overdraw.litellm")


class Recorder:
    """Turns LiteLLM's payloads into events and hands them over. Thread-safe."""

    def __init__(self, settings: Settings, delivery: Delivery) -> None:
        self.delivery = delivery
        self._parser = Parser(LiteLLM())
        self._pseudonyms = pseudonyms_of(settings)
        self._gateway = name(socket.gethostname())

    def record(self, kwargs: Mapping[str, Any]) -> None:
        """Hand over the event of a call; `kwargs` is what LiteLLM gives a logger. Never raises, never waits."""
        try:
            payload = kwargs.get("standard_logging_object")
            if payload is None:
                self.delivery.refuse("no standard_logging_object: is LiteLLM older than 1.50?")
                return
            arrivals, rejects = self._parser.payload(payload, FOREVER)
            for reject in rejects:
                self.delivery.refuse(reject.message)
            for _, time, call in arrivals:
                call.gateway = self._gateway
                if self._pseudonyms is not None:
                    self._pseudonyms.hide(call)
                self.delivery.offer(key_bytes(call.key_id), canonical(call, time))
        except Exception as error:  # whatever it is: the request must not notice
            self.delivery.refuse(f"{type(error).__name__} in the callback")
            log.debug("a call could not be recorded", exc_info=True)


def make_logger(
    base: type[Any], settings: Settings | None = None, make_delivery: Callable[[Settings], Delivery] = Delivery
) -> Any:
    """An instance of LiteLLM's `CustomLogger` (`base`) that records. Settings come from the environment.

    Raises SettingsError where they are wrong: the proxy then does not start, and says why.
    """
    chosen = settings or load_settings()
    client_options(chosen)  # a password or a certificate that cannot be read is found now, not at the first call
    recorder = Recorder(chosen, make_delivery(chosen))
    atexit.register(recorder.delivery.close)

    class OverdrawLogger(base):
        """Records every call of the proxy, answered or failed; the proxy awaits these, so they only hand over."""

        async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            recorder.record(kwargs)

        async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            recorder.record(kwargs)

    made = OverdrawLogger()
    made.recorder = recorder
    return made
