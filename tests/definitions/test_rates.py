"""Rate tables as documents."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.catalog import builtin
from tallystick.definitions import rates
from tallystick.errors import Problem
from tallystick.model import Rate
from tallystick.windows import INSTANT_MAX, INSTANT_MIN

MAY = 1_714_521_600_000_000


def test_a_table_has_rates_by_type_and_start() -> None:
    """Text or number, an instant or a day, in any order; without a start a rate is from 1970 on."""
    lines = [
        {"type": "lens", "multiplier": "3", "from": "2024-05-01"},
        {"type": "lens", "multiplier": Decimal("0.500000")},
        {"type": "explore", "multiplier": 1, "from": "2024-05-01T02:00:00+02:00"},
        {"type": "track", "multiplier": "0", "from": None},
        {"type": "big", "multiplier": 1_000_000},
    ]
    assert rates.read({"rates": lines}) == {
        "big": (Rate(0, 10**12),),
        "explore": (Rate(MAY, 1_000_000),),
        "lens": (Rate(0, 500_000), Rate(MAY, 3_000_000)),
        "track": (Rate(0, 0),),
    }


def test_a_table_may_be_empty() -> None:
    """No rates are a table too: every event that needs one is refused."""
    assert rates.read({"rates": []}) == {}


ONE = {"type": "a", "multiplier": "1"}


@pytest.mark.parametrize(
    ("document", "code", "pointer"),
    [
        ([], "field_type", ""),
        ({}, "field_missing", "/rates"),
        ({"rates": {}}, "field_type", "/rates"),
        ({"rates": [1]}, "field_type", "/rates/0"),
        ({"rates": [ONE], "name": "x"}, "field_value", "/name"),
        ({"rates": [{**ONE, "until": "2024-05-01"}]}, "field_value", "/rates/0/until"),
        ({"rates": [{"multiplier": "1"}]}, "field_missing", "/rates/0/type"),
        ({"rates": [{"type": "a"}]}, "field_missing", "/rates/0/multiplier"),
        ({"rates": [{**ONE, "type": ""}]}, "field_length", "/rates/0/type"),
        ({"rates": [{**ONE, "type": 1}]}, "field_type", "/rates/0/type"),
        ({"rates": [{**ONE, "multiplier": "-1"}]}, "field_type", "/rates/0/multiplier"),
        ({"rates": [{**ONE, "multiplier": "1e3"}]}, "field_type", "/rates/0/multiplier"),
        ({"rates": [{**ONE, "multiplier": "1_0"}]}, "field_type", "/rates/0/multiplier"),
        ({"rates": [{**ONE, "multiplier": "٣"}]}, "field_type", "/rates/0/multiplier"),
        ({"rates": [{**ONE, "multiplier": True}]}, "field_type", "/rates/0/multiplier"),
        ({"rates": [{**ONE, "multiplier": "0.0000001"}]}, "field_value", "/rates/0/multiplier"),
        ({"rates": [{**ONE, "multiplier": "1000000.000001"}]}, "field_value", "/rates/0/multiplier"),
        ({"rates": [{**ONE, "multiplier": Decimal("1e999999")}]}, "field_value", "/rates/0/multiplier"),
        ({"rates": [{**ONE, "from": "yesterday"}]}, "time_format", "/rates/0/from"),
        ({"rates": [{**ONE, "from": "2024-05-01T00:00:00"}]}, "time_format", "/rates/0/from"),
        ({"rates": [{**ONE, "from": "2024-02-30"}]}, "time_format", "/rates/0/from"),
        ({"rates": [{**ONE, "from": "0001-01-01"}]}, "time_format", "/rates/0/from"),
        ({"rates": [{**ONE, "from": 0}]}, "time_format", "/rates/0/from"),
        ({"rates": [ONE, {**ONE, "from": "1970-01-01"}]}, "field_value", "/rates/1"),
    ],
)
def test_a_flaw_of_a_table_is_named_by_its_pointer(document: Any, code: str, pointer: str) -> None:
    """Every rule of a rate refuses what breaks it, and says where."""
    with pytest.raises(Problem) as refused:
        rates.read(document)
    assert (refused.value.code, [flaw.pointer for flaw in refused.value.flaws]) == (code, [pointer])


def test_the_built_in_table_is_written_as_the_vendor_has_it() -> None:
    """Types by name, multipliers in their shortest form, from 1970 on."""
    lines = rates.written(builtin().rates["vision"])["rates"]
    assert [(line["type"], line["multiplier"]) for line in lines] == [
        ("assistant", "2"),
        ("explore", "1"),
        ("lens", "3"),
        ("similar", "0.5"),
        ("track", "0"),
    ]
    assert {line["from"] for line in lines} == {"1970-01-01T00:00:00Z"}


starts = st.dictionaries(st.integers(INSTANT_MIN, INSTANT_MAX), st.integers(0, 10**12), min_size=1, max_size=4)


@given(table=st.dictionaries(st.sampled_from(["lens", "a b", "\U0001f600"]), starts))
def test_every_table_comes_back_from_its_document(table: dict[str, dict[int, int]]) -> None:
    """Whatever was defined is written so that it reads the same."""
    defined = {type: tuple(Rate(at, of[at]) for at in sorted(of)) for type, of in table.items()}
    assert rates.read(rates.written(defined)) == defined
