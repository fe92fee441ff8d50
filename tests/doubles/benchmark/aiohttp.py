"""A test double of aiohttp: remembers what it was made with."""

from __future__ import annotations

from typing import Any


class ClientTimeout:
    """A timeout."""

    def __init__(self, total: float) -> None:
        self.total = total


class ClientSession:
    """A session."""

    def __init__(self, **options: Any) -> None:
        self.options = options
