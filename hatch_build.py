"""Puts the collection into the wheel; an editable install finds it in the checkout, by the symbolic link."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COLLECTION = "ansible_collections/deployer/sglang"
PARTS = ("galaxy.yml", "meta", "playbooks", "plugins", "roles")


class CollectionHook(BuildHookInterface[Any]):
    """A static force-include would copy the collection into an editable install as well, where it would go stale."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the collection's folders to a real wheel."""
        if version != "editable":
            build_data["force_include"].update({part: f"{COLLECTION}/{part}" for part in PARTS})
