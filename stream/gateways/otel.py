"""OpenTelemetry: OTLP JSON of spans and of log records with GenAI attributes, under their new names and the old ones.

No attribute of the conventions says whose key it was, so that name is the operator's (`key_from`); a resource's
attributes count for all its spans. Spans of tools and agents are passed over, for those of an agent sum up the calls
below them; so is all else that is no call to a model. Of an attribute that is not named here, such as a prompt, only
the name is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from stream.gateways.adapter import Document, NotACall, Options
from stream.gateways.scalars import (
    MAX_COST_USD,
    amount,
    answered,
    count,
    event_id,
    key,
    limit,
    moment,
    name,
    status,
    usage,
)
from stream.gateways.traits import client_in, network_in, template_in

KEY_FROM = ("overdraw.key_id", "api_key.id", "metadata.user_api_key_hash")
"""The last one is LiteLLM's."""
ORG_FROM = ("overdraw.org_id", "tenant.id", "metadata.user_api_key_org_id", "metadata.user_api_key_team_id")
KEY_HINT = "Name the attribute that holds the key's id with --key-from (intake_key_from); usual ones are " + ", ".join(
    KEY_FROM
)
NO_CALL = "no span or log record of a call to a model: filter the others out, as deploy/gateways/otel does"
NOT_CALLS = frozenset(("execute_tool", "invoke_agent", "create_agent", "invoke_workflow", "retrieval", "plan"))
"""Operations (`gen_ai.operation.name`) that call no model themselves."""
INFERENCE = "gen_ai.client.inference.operation.details"
"""The event of a call among log records."""

_NAMES = {
    "id": ("gen_ai.response.id",),
    "model": ("gen_ai.response.model",),
    "requested_model": ("gen_ai.request.model",),
    "operation": ("gen_ai.operation.name",),
    "input": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "reasoning": ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
    "cached": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
    "max": ("gen_ai.request.max_tokens",),
    "user": ("enduser.id", "user.id"),
    "address": ("client.address", "http.client_ip"),
    "agent": ("user_agent.original", "http.user_agent"),
    "status": ("http.response.status_code", "http.status_code"),
    "error": ("error.type",),
    "template": ("overdraw.prompt_fingerprint",),
    "cost": ("gen_ai.cost.total_cost",),
    "gateway": ("service.instance.id", "k8s.pod.name", "host.name"),
}


class _Attribute(msgspec.Struct, gc=False):
    key: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Value(msgspec.Struct, gc=False):
    stringValue: Any = None
    intValue: Any = None
    doubleValue: Any = None


class _Status(msgspec.Struct, gc=False):
    code: Any = None


class _Item(msgspec.Struct, gc=False):
    """A span or a log record."""

    traceId: Any = None
    spanId: Any = None
    eventName: Any = None
    startTimeUnixNano: Any = None
    endTimeUnixNano: Any = None
    timeUnixNano: Any = None
    observedTimeUnixNano: Any = None
    status: _Status | None = None
    attributes: list[_Attribute] | None = None


class _Scope(msgspec.Struct, gc=False):
    spans: list[_Item] | None = None
    logRecords: list[_Item] | None = None


class _Resource(msgspec.Struct, gc=False):
    attributes: list[_Attribute] | None = None


class _Batch(msgspec.Struct, gc=False):
    resource: _Resource | None = None
    scopeSpans: list[_Scope] | None = None
    instrumentationLibrarySpans: list[_Scope] | None = None
    scopeLogs: list[_Scope] | None = None


class Export(msgspec.Struct, gc=False):
    """The named fields of an export of traces or of logs."""

    resourceSpans: list[_Batch] | None = None
    resourceLogs: list[_Batch] | None = None


_value = msgspec.json.Decoder(_Value | None).decode
_Found = dict[str, Any]


class OTel:
    """See the module. `options`: attributes that say the key and the organisation, instead of the usual ones."""

    record = Export
    key_hint = KEY_HINT

    def __init__(self, options: Options | None = None) -> None:
        key_from = (options and options.key_from) or KEY_FROM
        org_from = (options and options.org_from) or ORG_FROM
        self._wanted: dict[str, list[tuple[str, int]]] = {}
        """Attribute to what it says, and how far behind others that say the same."""
        for what, names in ({"key": key_from, "org": org_from} | _NAMES).items():
            for rank, attribute in enumerate(names):
                self._wanted.setdefault(attribute, []).append((what, rank))

    def documents(self, record: Export) -> Sequence[Document]:
        """All calls of an export."""
        found: list[Document] = []
        for batch in (*(record.resourceSpans or ()), *(record.resourceLogs or ())):
            shared = self._read(batch.resource.attributes) if batch.resource is not None else {}
            for item in _items(batch):
                document = self._document(item, shared)
                if document is not None:
                    found.append(document)
        if not found:
            raise NotACall(NO_CALL)
        return found

    def _read(self, attributes: Iterable[_Attribute] | None) -> _Found:
        """What the attributes say; where several say the same, the one that is named first counts."""
        found: _Found = {}
        ranks: dict[str, int] = {}
        wanted = self._wanted
        for attribute in attributes or ():
            uses = wanted.get(attribute.key)
            if uses is None:
                continue
            value = _value(attribute.value)
            if value is None:
                continue
            text = value.stringValue
            if text is None:
                text = value.doubleValue if value.intValue is None else value.intValue
            for what, rank in uses:
                if what not in found or rank < ranks[what]:
                    found[what], ranks[what] = text, rank
        return found

    def _document(self, item: _Item, shared: _Found) -> Document | None:
        own = self._read(item.attributes)
        said = shared | own if shared else own
        get = said.get

        operation = name(get("operation"))
        given, taken = get("input"), get("output")
        end = item.endTimeUnixNano
        if operation in NOT_CALLS:
            return None
        if given is None and taken is None:
            if get("requested_model") is None and get("model") is None:
                return None
            if end is None and item.eventName != INFERENCE:
                return None  # a log record of a part of a call, such as a message
        if end is None:
            end = item.timeUnixNano if count(item.timeUnixNano) else item.observedTimeUnixNano
        document: Document = {}
        for what, value in said.items():
            field, convert = _PLANS[what]
            found = convert(value)
            if found is not None:
                document[field] = found
        if "model" not in document and "requested_model" in document:
            document["model"] = document["requested_model"]
        error, code = get("error"), document.get("status")
        failed = error is not None or (item.status is not None and item.status.code in (2, "STATUS_CODE_ERROR"))
        if code is None and failed:
            code = document["status"] = status(error) or 500
        given, taken = usage(given, taken, answered=not failed and answered(code) and operation != "embeddings")
        if given is not None:
            document["input_tokens"] = given
        if taken is not None:
            document["output_tokens"] = taken
        # the trace beside the answer's id: some model servers number their answers anew after each start
        event = event_id(get("id"), item.traceId) if get("id") else event_id(item.traceId, item.spanId)
        if event is not None:
            document["event_id"] = event
        begin, time = moment(item.startTimeUnixNano, 1e-9), moment(end, 1e-9)
        if time is not None:
            document["time"] = time
        if isinstance(begin, float) and isinstance(time, float) and time >= begin:
            document["duration_ms"] = (time - begin) * 1000.0
        return document


def _nothing(value: Any) -> None:
    """Of what is looked at by itself."""


_PLANS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "key": ("key_id", key),
    "org": ("org_id", name),
    "user": ("user_id", name),
    "id": ("event_id", _nothing),
    "model": ("model", name),
    "requested_model": ("requested_model", name),
    "operation": ("operation", name),
    "input": ("input_tokens", _nothing),
    "output": ("output_tokens", _nothing),
    "reasoning": ("reasoning_tokens", count),
    "cached": ("cached_input_tokens", count),
    "max": ("max_output_tokens", limit),
    "address": ("client_ip", network_in),
    "agent": ("user_agent", client_in),
    "status": ("status", status),
    "error": ("status", _nothing),
    "template": ("prompt_fingerprint", template_in),
    "gateway": ("gateway", name),
    "cost": ("cost_usd", partial(amount, most=MAX_COST_USD)),
}
"""What an attribute says, to the field and to what makes it of the value."""


def _items(batch: _Batch) -> Iterator[_Item]:
    for scopes in (batch.scopeSpans, batch.instrumentationLibrarySpans, batch.scopeLogs):
        for scope in scopes or ():
            yield from scope.spans or ()
            yield from scope.logRecords or ()
