"""Words that everything that speaks to people uses."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 wheel`, `2 wheels`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Text of others without control characters, which would act on a terminal; lines are kept."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
