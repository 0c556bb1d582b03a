"""OpenAI's organization usage API: buckets of time, each with sums per key and model (`group_by=api_key_id,model`).

A record is a page (`data` holds the buckets), a bucket, or one result with its bucket's `start_time` and `end_time`.
The times are epoch seconds. The id of a sum is made of what it is a sum of: a bucket that is fetched twice counts once,
so fetch it when it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from stream.gateways.adapter import Document, NotACall
from stream.gateways.scalars import count, key, moment, name, said

KEY_HINT = "Ask for it with group_by=api_key_id (and model): without, OpenAI sums over all keys"
OPERATIONS = {"completions": "chat", "embeddings": "embeddings"}


class _Result(msgspec.Struct, gc=False):
    object: Any = None
    api_key_id: Any = None
    project_id: Any = None
    user_id: Any = None
    model: Any = None
    batch: Any = None
    service_tier: Any = None
    num_model_requests: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    input_cached_tokens: Any = None


class _Bucket(_Result, gc=False):
    start_time: Any = None
    end_time: Any = None
    results: list[_Result] | None = None


class Page(_Bucket, gc=False):
    """The named fields of all three shapes."""

    data: list[_Bucket] | None = None


class OpenAIUsage:
    """See the module."""

    record = Page
    key_hint = KEY_HINT

    def documents(self, record: Page) -> Sequence[Document]:
        """One sum of calls for each result that counts any."""
        buckets: Sequence[_Bucket] = (record,) if record.data is None else record.data
        found = []
        for bucket in buckets:
            if bucket.start_time is None and bucket.end_time is None:
                raise NotACall("no bucket with start_time and end_time: is it an answer of the organization usage API?")
            start, end = moment(bucket.start_time), moment(bucket.end_time)
            results = (bucket,) if bucket.results is None else bucket.results
            found += [_sum(result, start, end) for result in results if count(result.num_model_requests) != 0]
        if not found:
            raise NotACall("its buckets hold no calls: nothing was used")
        return found


def _sum(result: _Result, start: Any, end: Any) -> Document:
    kind = name(result.object) or ""
    what = kind.removeprefix("organization.usage.").removesuffix(".result")
    parts = (
        start,
        end,
        kind,
        *(name(getattr(result, field)) for field in ("api_key_id", "project_id", "user_id", "model", "service_tier")),
        result.batch is True,
    )
    calls = count(result.num_model_requests)
    span = end - start if isinstance(start, float) and isinstance(end, float) else None
    return said(
        {
            "event_id": sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32],
            "time": end,
            "period_seconds": span,
            "calls": calls,
            "key_id": key(result.api_key_id),
            "org_id": name(result.project_id),
            "user_id": name(result.user_id),
            "model": name(result.model),
            "operation": OPERATIONS.get(what) or name(what),
            "input_tokens": count(result.input_tokens),
            "output_tokens": 0 if what == "embeddings" else count(result.output_tokens),
            "cached_input_tokens": count(result.input_cached_tokens),
        }
    )
