"""What a student's function returns arrives as it was, whatever its texts and keys."""

from __future__ import annotations

from typing import Any

from effort import effort
from hypothesis import given
from hypothesis import strategies as st

from autograder.engine.codec import decode, encode, printable

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=9), inner, max_size=4
        ).filter(lambda found: len({printable(key) for key in found}) == len(found))
    ),
    max_leaves=12,
)


@given(VALUES)
@effort(200)
def test_plain_values_survive(value: Any) -> None:
    assert decode(encode(value)) == without_control_characters(value)


def without_control_characters(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        clean = without_control_characters
        return {clean(key): clean(inner) for key, inner in value.items()}
    return [without_control_characters(v) for v in value] if isinstance(value, list) else value
