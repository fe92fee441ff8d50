"""Whatever a text holds, what it is quoted into shows it and does nothing else with it."""

from __future__ import annotations

import ast
import subprocess

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ansible_collections.deployer.sglang.plugins.plugin_utils.quoting import (
    code_cell,
    code_span,
    one_line,
    python_literal,
    shell_word,
)

NASTY = st.text(alphabet="`'\"\\$|<>[]()!*_#&{}%\n\r\t \x1b\u2028ä例x", max_size=30)
TEXTS = st.one_of(NASTY, st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))


def spoken(words: str) -> bytes:
    return subprocess.run(["bash", "-c", f"printf %s {words}"], capture_output=True, check=True).stdout


@given(TEXTS)
def test_python_reads_the_text_back_from_one_line_of_ascii(text: str) -> None:
    source = python_literal(text)
    assert ast.literal_eval(source) == text
    assert source.isascii() and len(source.splitlines()) == 1


def test_a_python_text_stands_in_double_quotes_where_it_can() -> None:
    assert (python_literal("it's"), python_literal('"'), python_literal(None)) == ('"it\'s"', "'\"'", "None")


@given(TEXTS.filter(lambda text: "\0" not in text))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_bash_reads_the_text_back_from_one_line(text: str) -> None:
    word = shell_word(text)
    assert spoken(word) == text.encode()
    assert len(word.splitlines()) == 1


@given(TEXTS)
def test_markdown_shows_the_text_as_code_and_as_nothing_else(text: str) -> None:
    (inline,) = [token for token in MarkdownIt().parse(f"a {code_span(text)} b") if token.type == "inline"]
    kinds = [token.type for token in inline.children or ()]
    assert kinds == ["text", "code_inline", "text"]
    assert (inline.children or [])[1].content == (one_line(text) or "''")


@given(TEXTS)
def test_a_cell_of_a_table_holds_the_text_whole(text: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {code_cell(text)} | end |\n"
    tokens = MarkdownIt().enable("table").parse(table)
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4
    assert cells[3].content == "end"
    code = [token for token in cells[2].children or () if token.type == "code_inline"]
    assert len(code) == 1
