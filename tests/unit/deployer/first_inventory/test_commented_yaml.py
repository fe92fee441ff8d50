"""YAML with comments reads back to the same values."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from deployer.first_inventory.commented_yaml import comment, entry, item

TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=120)
SCALAR = st.one_of(TEXT, st.integers(-(10**9), 10**9), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
KEY = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True)
VALUE = st.recursive(
    st.one_of(SCALAR, st.lists(SCALAR, max_size=4)), lambda inner: st.dictionaries(KEY, inner, max_size=4), max_leaves=8
)


@given(st.dictionaries(KEY, VALUE, min_size=1, max_size=5), st.text(max_size=200))
def test_any_value_reads_back_whatever_the_comments_say(value: dict[str, Any], said: str) -> None:
    comments = {key: [said] for key in value}
    text = "\n".join(["list:", *item(value, 2, comments), *entry("one", value, 0, {"one": [said]})])
    assert yaml.safe_load(text) == {"list": [value], "one": value}


@given(st.text(max_size=400))
def test_a_comment_is_nothing_but_comments(said: str) -> None:
    lines = comment(said, 4)
    assert all(line.startswith("    # ") and line.isprintable() for line in lines)
    assert yaml.safe_load("\n".join(lines)) is None


def test_what_is_too_wide_for_yamllint_is_excepted() -> None:
    assert entry("source", "x" * 100, 2)[0] == "  # yamllint disable-line rule:line-length"


def test_words_of_a_host_are_shortened() -> None:
    assert len("".join(comment("x" * 5000))) < 400
