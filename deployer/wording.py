"""Words that everything that speaks to people uses."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 wheel`, `2 wheels`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
