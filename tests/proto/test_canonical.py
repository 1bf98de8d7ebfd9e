from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.canonical import Value, encode

VALUES = st.lists(
    st.binary(max_size=9)
    | st.text(max_size=9)
    | st.integers(0, 2**64 - 1)
    | st.floats(allow_nan=False),
    max_size=5,
)


def kinds(values: list[Value]) -> list[tuple[type, str]]:
    return [(type(value), repr(value)) for value in values]


@given(VALUES, VALUES)
def test_only_equal_values_are_encoded_equally(one: list[Value], other: list[Value]) -> None:
    assert (encode(one) == encode(other)) == (kinds(one) == kinds(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"ab", b"c"), (b"a", b"bc")),
        ((b"a",), ("a",)),
        ((b"", b""), (b"",)),
        ((1,), (1.0,)),
        ((b"a", b"b"), (b"b", b"a")),
    ],
)
def test_nothing_slips_from_one_value_into_the_next(
    one: tuple[Value, ...], other: tuple[Value, ...]
) -> None:
    assert encode(one) != encode(other)
