"""The places of a call's fields are those of the struct."""

from __future__ import annotations

import pytest

from stream.core import fields
from stream.events import Call
from stream.gateways.overdraw import parse

PLACES = {name.lower(): place for name, place in vars(fields).items() if name.isupper()}


@pytest.mark.parametrize("name", PLACES)
def test_every_place_is_that_of_the_struct(name: str) -> None:
    assert Call.__struct_fields__[PLACES[name]] == name


def test_a_call_off_the_wire_has_them_at_the_same_places() -> None:
    """Its class has more fields: the aliases, which nobody sends."""
    calls, _ = parse([(0, b'{"event_id": "a", "time": 1.7e9, "key_id": "k", "status": 200, "cost_usd": 0.5}', 2e9)])
    found = fields.fields_of(calls[0][2])
    assert [found[PLACES[name]] for name in ("event_id", "key_id", "status", "cost_usd")] == ["a", "k", 200, 0.5]
