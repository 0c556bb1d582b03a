"""Apache APISIX: the default log entry of its logger plugins (kafka-logger, http-logger, …) with ai-proxy's summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stream.gateways.adapter import Document, NotACall
from stream.gateways.scalars import amount, answered, count, event_id, key, moment, name, said, status, usage
from stream.gateways.traits import client_in, network_in

KEY_HINT = "Put an authentication plugin such as key-auth on the route: the consumer's name is the key"
NO_SUMMARY = "no llm_summary: set logging.summaries of ai-proxy to true, and log the routes to models only"


class _Headers(msgspec.Struct, rename={"request_id": "x-request-id", "user_agent": "user-agent"}, gc=False):
    request_id: Any = None
    user_agent: Any = None


class _Request(msgspec.Struct, gc=False):
    headers: _Headers | None = None


class _Response(msgspec.Struct, gc=False):
    status: Any = None
    headers: _Headers | None = None


class _Consumer(msgspec.Struct, gc=False):
    username: Any = None
    group_id: Any = None


class _Server(msgspec.Struct, gc=False):
    hostname: Any = None


class _Summary(msgspec.Struct, gc=False):
    request_model: Any = None
    model: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    reasoning_tokens: Any = None
    cache_read_input_tokens: Any = None
    end_user_id: Any = None


class Entry(msgspec.Struct, gc=False):
    """The named fields; `llm_request` and `llm_response_text`, which hold prompts and answers, are none of them."""

    start_time: Any = None
    latency: Any = None
    client_ip: Any = None
    consumer: _Consumer | None = None
    request: _Request | None = None
    response: _Response | None = None
    server: _Server | None = None
    llm_summary: _Summary | None = None


_NO_HEADERS = _Headers()
_NO_CONSUMER = _Consumer()


class Apisix:
    """See the module."""

    record = Entry
    key_hint = KEY_HINT

    def documents(self, record: Entry) -> Sequence[Document]:
        """One call an entry."""
        summary = record.llm_summary
        if summary is None:
            raise NotACall(NO_SUMMARY)
        asked = (record.request.headers if record.request is not None else None) or _NO_HEADERS
        response = record.response
        sent = (response.headers if response is not None else None) or _NO_HEADERS
        consumer = record.consumer or _NO_CONSUMER
        begin, took = moment(record.start_time, 0.001), amount(record.latency)
        code = status(response.status) if response is not None else None
        given, taken = usage(summary.prompt_tokens, summary.completion_tokens, answered=answered(code))
        # the request id is the client's own if it sends one: with the moment it cannot make two calls look like one
        when = f"{record.start_time}-{record.latency}" if begin is not None else None
        return (
            said(
                {
                    "event_id": event_id(asked.request_id or sent.request_id, when),
                    "time": begin + took / 1000.0 if isinstance(begin, float) and took is not None else begin,
                    "key_id": key(consumer.username),
                    "org_id": name(consumer.group_id),
                    "user_id": name(summary.end_user_id),
                    "model": name(summary.model) or name(summary.request_model),
                    "requested_model": name(summary.request_model),
                    "input_tokens": given,
                    "output_tokens": taken,
                    "reasoning_tokens": count(summary.reasoning_tokens),
                    "cached_input_tokens": count(summary.cache_read_input_tokens),
                    "status": code,
                    "duration_ms": took,
                    "client_ip": network_in(record.client_ip),
                    "user_agent": client_in(asked.user_agent),
                    "gateway": name(record.server.hostname) if record.server is not None else None,
                }
            ),
        )
