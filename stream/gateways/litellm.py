"""LiteLLM: a StandardLoggingPayload (callbacks, `generic_api`, buckets), or a row of its spend logs.

Sources of the names: what a LiteLLM proxy 1.106 writes, and its public schema of the payload. Times are epoch seconds;
older releases wrote local time without a zone, which is taken as UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stream.gateways.adapter import Document, NotACall
from stream.gateways.scalars import MAX_COST_USD, amount, count, event_id, key, limit, moment, name, said, status, usage
from stream.gateways.traits import client_in, network_in, template_in

KEY_HINT = "It stands in metadata.user_api_key_hash, which the proxy writes: calls of the SDK alone have none"
_KINDS = {
    "completion": "chat",
    "anthropic_messages": "chat",
    "responses": "chat",
    "generate_content": "generate_content",
    "text_completion": "text_completion",
    "embedding": "embeddings",
}
OPERATIONS = _KINDS | {f"a{kind}": operation for kind, operation in _KINDS.items()}
"""Kinds of call, also as their async twins are called, as OpenTelemetry names them; others keep LiteLLM's name."""
TEXT_OPERATIONS = frozenset(("chat", "generate_content", "text_completion"))
"""Operations whose answer takes tokens."""


class _Details(msgspec.Struct, gc=False):
    reasoning_tokens: Any = None
    cached_tokens: Any = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    completion_tokens_details: _Details | None = None
    prompt_tokens_details: _Details | None = None
    cache_read_input_tokens: Any = None


class _Template(msgspec.Struct, gc=False):
    prompt_id: Any = None


class _Metadata(msgspec.Struct, gc=False):
    user_api_key_hash: Any = None
    user_api_key_org_id: Any = None
    user_api_key_team_id: Any = None
    user_api_key_user_id: Any = None
    user_api_key_end_user_id: Any = None
    requester_ip_address: Any = None
    user_agent: Any = None
    usage_object: _Usage | None = None
    prompt_management_metadata: _Template | None = None


class _Parameters(msgspec.Struct, gc=False):
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None


class _Error(msgspec.Struct, gc=False):
    error_code: Any = None


class Payload(msgspec.Struct, gc=False):
    """The named fields of both shapes; messages and responses are none of them."""

    id: Any = None
    request_id: Any = None
    litellm_call_id: Any = None
    call_type: Any = None
    status: Any = None
    startTime: Any = None
    endTime: Any = None
    response_time: Any = None
    model: Any = None
    model_group: Any = None
    metadata: _Metadata | str | None = None
    api_key: Any = None
    organization_id: Any = None
    team_id: Any = None
    user: Any = None
    end_user: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    response_cost: Any = None
    spend: Any = None
    requester_ip_address: Any = None
    user_agent: Any = None
    model_parameters: _Parameters | None = None
    error_information: _Error | None = None


_metadata = msgspec.json.Decoder(_Metadata).decode
_NOTHING = _Metadata()
_NO_USAGE = _Usage()
_NO_DETAILS = _Details()


class LiteLLM:
    """See the module."""

    record = Payload
    key_hint = KEY_HINT

    def documents(self, record: Payload) -> Sequence[Document]:
        """One call a payload."""
        if record.call_type is None and record.litellm_call_id is None and record.metadata is None:
            raise NotACall("no call_type, litellm_call_id or metadata: is it LiteLLM's StandardLoggingPayload?")
        metadata = record.metadata
        if isinstance(metadata, str):  # spend logs hold it as JSON in a text
            metadata = _metadata(metadata)
        metadata = metadata or _NOTHING
        failed = record.status == "failure"
        kind = record.call_type if isinstance(record.call_type, str) else "completion"
        operation = OPERATIONS.get(kind) or name(kind)
        given, taken = usage(
            record.prompt_tokens, record.completion_tokens, answered=not failed and operation in TEXT_OPERATIONS
        )
        details = metadata.usage_object or _NO_USAGE
        cached = (details.prompt_tokens_details or _NO_DETAILS).cached_tokens
        if cached is None:
            cached = details.cache_read_input_tokens
        parameters = record.model_parameters
        code = record.error_information.error_code if record.error_information is not None else None
        took = amount(record.response_time, 1000.0)
        end = moment(record.endTime)
        if took is None:
            begin = moment(record.startTime)
            if isinstance(begin, float) and isinstance(end, float):
                took = amount((end - begin) * 1000.0)
        cost = record.response_cost
        address = record.requester_ip_address or metadata.requester_ip_address
        agent = record.user_agent or metadata.user_agent
        template = metadata.prompt_management_metadata
        # the provider's id alone is not enough: some number their answers anew after each start, and a cache answers
        # with the id of the first one. LiteLLM's own comes from the client if he sends one. A callback that is fired
        # twice for a call says both of them again.
        document: Document = {
            "event_id": event_id(record.id or record.request_id, record.litellm_call_id),
            "time": end,
            "key_id": key(metadata.user_api_key_hash or record.api_key),
            "org_id": name(metadata.user_api_key_org_id)
            or name(metadata.user_api_key_team_id)
            or name(record.organization_id)
            or name(record.team_id),
            "user_id": name(record.end_user)
            or name(metadata.user_api_key_end_user_id)
            or name(metadata.user_api_key_user_id)
            or name(record.user),
            "model": name(record.model),
            "requested_model": name(record.model_group),
            "operation": operation,
            "input_tokens": given,
            "output_tokens": taken,
            "reasoning_tokens": count((details.completion_tokens_details or _NO_DETAILS).reasoning_tokens),
            "cached_input_tokens": count(cached),
            "max_output_tokens": parameters
            and (
                limit(parameters.max_completion_tokens)
                or limit(parameters.max_tokens)
                or limit(parameters.max_output_tokens)
            ),
            "status": (status(code) or 500) if failed else 200,
            "duration_ms": took,
            "client_ip": network_in(address),
            "user_agent": client_in(agent),
            "prompt_fingerprint": template_in(template.prompt_id) if template is not None else None,
            "cost_usd": amount(record.spend if cost is None else cost, most=MAX_COST_USD),
        }
        return (said(document),)
