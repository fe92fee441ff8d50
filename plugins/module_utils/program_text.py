"""The source of modules that are handed to another Python."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any


def source_of(module: ModuleType) -> str:
    """From wherever modules are loaded: a folder, a wheel, Ansible's archive, its loader of collections (as bytes)."""
    loader: Any = getattr(module.__spec__, "loader", None)
    text = loader.get_source(module.__name__) if hasattr(loader, "get_source") else None
    text = inspect.getsource(module) if text is None else text
    return text.decode() if isinstance(text, bytes) else str(text)
