"""Envoy AI Gateway: its JSON access log, whose format names GenAI attributes, headers and Envoy's own fields.

The format is the operator's, so some of it may be missing, and numbers may be texts: `-` is how Envoy says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stream.gateways.adapter import Document, NotACall
from stream.gateways.scalars import amount, answered, count, event_id, key, limit, moment, name, said, status, usage
from stream.gateways.traits import client_in, network_in

KEY_HINT = (
    "Log the header in which your authentication puts the key's id as x-api-key-id, or name yours with --key-from "
    "(intake_key_from)"
)
NAMES = {
    "key": "key_id",
    "api_key": "api_key_id",
    "key_header": "x-api-key-id",
    "org": "org_id",
    "tenant": "x-tenant-id",
    "org_header": "x-org-id",
    "user": "x-user-id",
    "request_model": "gen_ai.request.model",
    "response_model": "gen_ai.response.model",
    "operation": "gen_ai.operation.name",
    "max_tokens": "gen_ai.request.max_tokens",
    "input": "gen_ai.usage.input_tokens",
    "prompt": "gen_ai.usage.prompt_tokens",
    "output": "gen_ai.usage.output_tokens",
    "completion": "gen_ai.usage.completion_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
    "reasoning_old": "gen_ai.usage.reasoning_tokens",
    "cached": "gen_ai.usage.cache_read.input_tokens",
    "cached_old": "gen_ai.usage.cached_input_tokens",
    "request_id": "x-request-id",
    "forwarded": "x-forwarded-for",
    "agent": "user-agent",
    "peer": "downstream_remote_address",
}
Line: Any = msgspec.defstruct(
    "Line",
    [(field, Any, None) for field in (*NAMES, "start_time", "duration", "response_code", "gateway")],
    rename=NAMES,
    gc=False,
)
"""The named fields of a line."""


class Envoy:
    """See the module."""

    record = Line
    key_hint = KEY_HINT

    def documents(self, record: Any) -> Sequence[Document]:
        """One call a line."""
        asked, served = name(record.request_model), name(record.response_model)
        given = record.prompt if record.input in (None, "-") else record.input
        taken = record.completion if record.output in (None, "-") else record.output
        if asked is None and served is None and count(given) is None and count(taken) is None:
            raise NotACall(
                "no gen_ai.request.model and no tokens: log the routes to models only, with these attributes"
            )
        code = status(record.response_code)
        given, taken = usage(given, taken, answered=answered(code))
        begin, took = moment(record.start_time), amount(record.duration)
        address = record.forwarded if name(record.forwarded) is not None else record.peer
        # where Envoy trusts its clients' request ids, the moment keeps two calls from looking like one
        when = f"{record.start_time}-{record.duration}" if begin is not None else None
        cached = count(record.cached)
        reasoning = count(record.reasoning)
        return (
            said(
                {
                    "event_id": event_id(record.request_id, when),
                    "time": begin + took / 1000.0 if isinstance(begin, float) and took is not None else begin,
                    "key_id": key(record.key) or key(record.api_key) or key(record.key_header),
                    "org_id": name(record.org) or name(record.tenant) or name(record.org_header),
                    "user_id": name(record.user),
                    "model": served or asked,
                    "requested_model": asked,
                    "operation": name(record.operation),
                    "input_tokens": given,
                    "output_tokens": taken,
                    "reasoning_tokens": count(record.reasoning_old) if reasoning is None else reasoning,
                    "cached_input_tokens": count(record.cached_old) if cached is None else cached,
                    "max_output_tokens": limit(record.max_tokens),
                    "status": code,
                    "duration_ms": took,
                    "client_ip": network_in(address),
                    "user_agent": client_in(record.agent),
                    "gateway": name(record.gateway),
                }
            ),
        )
