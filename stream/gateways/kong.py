"""Kong Gateway: the entry of its logging plugins (kafka-log, http-log, file-log, …) with what the AI plugins add.

The plugins' part stands in `ai`, under the name of the plugin or, in some releases, right there. Tokens are spelt
`prompt_tokens`, in the documentation of some releases `prompt_token`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stream.gateways.adapter import Document, NotACall
from stream.gateways.scalars import (
    MAX_COST_USD,
    amount,
    answered,
    count,
    event_id,
    key,
    moment,
    name,
    said,
    status,
    usage,
)
from stream.gateways.traits import client_in, network_in

KEY_HINT = "Put an authentication plugin such as key-auth on the route: the consumer is the key"
NO_AI = "no ai.proxy: set logging.log_statistics of ai-proxy to true, and log the routes to models only"


class _Headers(msgspec.Struct, rename={"user_agent": "user-agent"}, gc=False):
    user_agent: Any = None


class _Request(msgspec.Struct, gc=False):
    id: Any = None
    headers: _Headers | None = None


class _Response(msgspec.Struct, gc=False):
    status: Any = None


class _Latencies(msgspec.Struct, gc=False):
    request: Any = None


class _Consumer(msgspec.Struct, gc=False):
    id: Any = None
    username: Any = None
    custom_id: Any = None


class _Details(msgspec.Struct, gc=False):
    reasoning_tokens: Any = None
    cached_tokens: Any = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Any = None
    prompt_token: Any = None
    completion_tokens: Any = None
    completion_token: Any = None
    completion_tokens_details: _Details | None = None
    prompt_tokens_details: _Details | None = None
    cost: Any = None


class _Meta(msgspec.Struct, gc=False):
    request_model: Any = None
    response_model: Any = None


class _Plugin(msgspec.Struct, gc=False):
    usage: _Usage | None = None
    meta: _Meta | None = None


class _Ai(
    _Plugin,
    rename={"ai_proxy": "ai-proxy", "ai_proxy_advanced": "ai-proxy-advanced", "transformer": "ai-request-transformer"},
    gc=False,
):
    proxy: _Plugin | None = None
    ai_proxy: _Plugin | None = None
    ai_proxy_advanced: _Plugin | None = None
    transformer: _Plugin | None = None


class Entry(msgspec.Struct, gc=False):
    """The named fields; payloads are none of them."""

    started_at: Any = None
    client_ip: Any = None
    workspace: Any = None
    workspace_name: Any = None
    consumer: _Consumer | None = None
    request: _Request | None = None
    response: _Response | None = None
    latencies: _Latencies | None = None
    ai: _Ai | None = None
    gateway: Any = None
    """No field of Kong's own: `custom_fields_by_lua` puts it there (deploy/gateways/kong)."""


_NO_USAGE = _Usage()
_NO_META = _Meta()
_NO_DETAILS = _Details()


class Kong:
    """See the module."""

    record = Entry
    key_hint = KEY_HINT

    def documents(self, record: Entry) -> Sequence[Document]:
        """One call an entry."""
        ai = record.ai
        if ai is None:
            raise NotACall(NO_AI)
        plugin = ai.proxy or ai.ai_proxy or ai.ai_proxy_advanced or (ai if ai.usage or ai.meta else ai.transformer)
        if plugin is None:
            raise NotACall(NO_AI)
        said_usage, meta = plugin.usage or _NO_USAGE, plugin.meta or _NO_META
        consumer, request = record.consumer, record.request
        begin = moment(record.started_at, 0.001)
        took = amount(record.latencies.request) if record.latencies is not None else None
        code = status(record.response.status) if record.response is not None else None
        given, taken = usage(
            said_usage.prompt_token if said_usage.prompt_tokens is None else said_usage.prompt_tokens,
            said_usage.completion_token if said_usage.completion_tokens is None else said_usage.completion_tokens,
            answered=answered(code),
        )
        agent = request.headers.user_agent if request is not None and request.headers is not None else None
        return (
            said(
                {
                    "event_id": event_id(request.id) if request is not None else None,
                    "time": begin + took / 1000.0 if isinstance(begin, float) and took is not None else begin,
                    "key_id": None
                    if consumer is None
                    else key(consumer.username) or key(consumer.custom_id) or key(consumer.id),
                    "org_id": name(record.workspace_name) or name(record.workspace),
                    "model": name(meta.response_model) or name(meta.request_model),
                    "requested_model": name(meta.request_model),
                    "input_tokens": given,
                    "output_tokens": taken,
                    "reasoning_tokens": count((said_usage.completion_tokens_details or _NO_DETAILS).reasoning_tokens),
                    "cached_input_tokens": count((said_usage.prompt_tokens_details or _NO_DETAILS).cached_tokens),
                    "status": code,
                    "duration_ms": took,
                    "client_ip": network_in(record.client_ip),
                    "user_agent": client_in(agent),
                    "cost_usd": amount(said_usage.cost, most=MAX_COST_USD),
                    "gateway": name(record.gateway),
                }
            ),
        )
