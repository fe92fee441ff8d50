"""Argument specifications that several modules share; documented in plugins/doc_fragments/host.py."""

from __future__ import annotations

from typing import Any

SERVICES: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {"name": {"type": "str", "required": True}, "port": {"type": "int", "required": True}},
}

# What the actions `model` and `environment` say to their modules.
PUSH: dict[str, Any] = {
    "phase": {"type": "str", "choices": ["query", "prepare", "land"], "default": "query"},
    "uploader": {"type": "int", "default": 0},
}
