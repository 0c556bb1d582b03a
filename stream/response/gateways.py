"""The gateways of a response file. To add one: a module, its model in `config`, a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import SecretStr

from stream.response.config import FileConfig, LiteLLMConfig, ResponseConfig
from stream.response.denyfile import DenyFile
from stream.response.gateway import DONE, Gateway, Result
from stream.response.litellm import LiteLLM
from stream.response.record import Before, Response


class DenyTopic:
    """The deny-list topic: it is written in one transaction with the record itself, so nothing is left to do."""

    async def begin(self, active: Sequence[Response]) -> Result:
        """See `Gateway`."""
        return DONE

    async def look(self, response: Response) -> Result:
        """See `Gateway`."""
        return Result("done", before=Before())

    async def apply(self, response: Response, before: Before, active: Sequence[Response]) -> Result:
        """See `Gateway`."""
        return DONE

    async def undo(self, response: Response, before: Before, active: Sequence[Response]) -> Result:
        """See `Gateway`."""
        return DONE

    async def close(self) -> None:
        """See `Gateway`."""


def gateways_of(config: ResponseConfig, keys: Mapping[str, SecretStr]) -> dict[str, Gateway]:
    """The gateways by their names, with their secrets."""
    made: dict[str, Gateway] = {}
    for name, chosen in config.gateways.items():
        if isinstance(chosen, LiteLLMConfig):
            made[name] = LiteLLM(chosen, keys[name])
        elif isinstance(chosen, FileConfig):
            made[name] = DenyFile(chosen)
        else:
            made[name] = DenyTopic()
    return made
