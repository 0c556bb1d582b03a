"""The callback for a LiteLLM proxy (`callbacks: ["stream.litellm.handler"]`): every call an event in the source topic.

`handler` exists only where LiteLLM is installed. Nothing here may delay or fail a request, read a prompt, or be needed
by another package of ours.
"""

from __future__ import annotations

from typing import Any

_made: dict[str, Any] = {}


def __getattr__(name: str) -> Any:
    """`handler`, made when the proxy asks for it."""
    if name != "handler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _made:
        try:
            from litellm.integrations.custom_logger import CustomLogger
        except ImportError as error:
            raise ImportError(
                "stream.litellm.handler is for a LiteLLM proxy, and here is none: install this package into the "
                "proxy's environment (deploy/gateways/litellm), or pip install 'overdraw[litellm]'"
            ) from error
        from stream.litellm.logger import make_logger

        _made[name] = make_logger(CustomLogger)
    return _made[name]
