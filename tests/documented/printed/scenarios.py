"""All scenarios, by the names that pages call them by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from tests.documented.printed import bringing, cutting_over, planning, reaching, serving
from tests.doubles.released_host import ReleasedHost


@dataclass(frozen=True)
class Stage:
    """What a scenario may use.

    Args:
        folder: an empty one of its own.
        monkeypatch: undone after it.
        host: a host on which `cutting_over.GOOD` serves; of the scenarios that need one.
    """

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    host: Callable[[], ReleasedHost]


def _of(module: ModuleType) -> dict[str, Callable[[Stage], str]]:
    found = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    return {
        name.replace("_", "-"): value for name, value in found.items() if not name.startswith("_") and callable(value)
    }


SCENARIOS: Mapping[str, Callable[[Stage], str]] = {
    name: run for module in (reaching, planning, bringing, cutting_over, serving) for name, run in _of(module).items()
}
