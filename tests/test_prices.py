"""Price files: what is read, what is refused and why, and which price is in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.alerts import model_id_of
from stream.prices import PriceFileError, Prices

MARCH, APRIL = 1_772_323_200.0, 1_775_001_600.0
LARGE = model_id_of("m-large")


def file_of(**changes):
    """A price file with one entry per given keyword, or a plain one."""
    fields = {"models": '["m-large"]', "input": "3", "output": "15"} | changes
    return "[[prices]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None)


CHANGED = file_of() + file_of(**{"from": "2026-04-01", "input": "6", "output": "30"})


@pytest.mark.parametrize(
    ("since", "until", "cost", "why"),
    [
        (MARCH, MARCH + 60, 15.0, "the old price"),
        (APRIL, APRIL + 60, 30.0, "the new one, from its day on"),
        (APRIL, APRIL, 30.0, "a moment has a price too"),
        (APRIL - 60, APRIL + 180, 0.25 * 15 + 0.75 * 30, "spread evenly over the time"),
    ],
)
def test_the_price_in_force_is_taken(since, until, cost, why):
    assert Prices(CHANGED).cost(LARGE, {"output": 1e6}, since, until) == pytest.approx(cost), why


def test_before_the_first_price_there_is_none():
    prices = Prices(file_of(**{"from": "2026-04-01"}))
    assert prices.cost(LARGE, {"output": 1e6}, APRIL - 60, APRIL + 60) is None


def test_cached_input_and_reasoning_cost_as_the_whole_unless_they_have_a_price():
    tokens = {"input": 1e6, "cached_input": 1e6, "output": 1e6, "reasoning": 1e6}
    assert Prices(file_of()).cost(LARGE, tokens, MARCH, APRIL) == pytest.approx(36)
    own = Prices(file_of(cached_input="0.3", reasoning="20"))
    assert own.cost(LARGE, tokens, MARCH, APRIL) == pytest.approx(3 + 0.3 + 15 + 20)


def test_a_star_is_every_model_that_has_no_price():
    prices = Prices(file_of() + file_of(models='["*"]', input="1", output="1"))
    assert prices.cost(model_id_of("m-other"), {"output": 1e6}, MARCH, APRIL) == 1
    assert prices.cost("none", {"output": 1e6}, MARCH, APRIL) == 1
    assert prices.cost(LARGE, {"output": 1e6}, MARCH, APRIL) == 15
    assert Prices(file_of()).cost("other", {"output": 1e6}, MARCH, APRIL) is None


@pytest.mark.parametrize("day", ["2026-04-01", "2026-04-01T02:00:00+02:00", '"2026-04-01T00:00:00Z"'])
def test_a_day_begins_at_midnight_utc(day):
    prices = Prices(file_of() + file_of(**{"from": day, "output": "30"}))
    assert prices.cost(LARGE, {"output": 1e6}, APRIL - 1, APRIL - 1) == 15
    assert prices.cost(LARGE, {"output": 1e6}, APRIL, APRIL) == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prices = [", "is not TOML"),
        ("", "prices: Field required"),
        (file_of(output=None), r"prices\.0\.output: Field required"),
        (file_of(input="-1"), r"prices\.0\.input: Input should be greater than or equal to 0"),
        (file_of(input="nan"), r"prices\.0\.input"),
        (file_of(outputs="1"), r"prices\.0\.outputs: Extra inputs"),
        (file_of(models="[]"), r"prices\.0\.models"),
        (file_of(**{"from": "2026-04-01T00:00:00"}), r"prices\.0\.from: has no zone: append Z"),
        (file_of(**{"from": "7"}), r"prices\.0\.from: is a date"),
        (file_of(**{"from": '"soon"'}), r"prices\.0\.from: "),
        ('currency = "dollars"\n' + file_of(), "currency"),
        (file_of() + file_of(), "m-large has two prices from the same moment on"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text, message):
    with pytest.raises(PriceFileError, match=message):
        Prices(text)


def test_two_models_with_the_same_id_in_alerts_cannot_both_have_a_price():
    seen = {}
    for number in range(5000):
        name = f"m-{number}"
        other = seen.setdefault(model_id_of(name), name)
        if other != name:
            break
    with pytest.raises(PriceFileError, match=f"{name} and {other} have the same id"):
        Prices(file_of(models=f'["{other}", "{name}"]'))


def test_the_shipped_example_is_a_price_file():
    example = Path(__file__).parent.parent / "deploy" / "prices.toml"
    assert Prices(example.read_text("utf-8")).currency == "USD"
