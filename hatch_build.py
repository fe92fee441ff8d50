"""Puts the collection into the wheel; an editable install finds it in the checkout, by the symbolic link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COLLECTION = "ansible_collections/deployer/sglang"
PARTS = ("galaxy.yml", "meta", "playbooks", "plugins", "roles")
# What `init` puts beside an inventory, and an example of one; not the bundles that may lie in a checkout.
SHIPPED = ("environments/*/*.yml", "environments/*/*.lock", "inventory/hosts.yml", "inventory/group_vars/*.yml")


class CollectionHook(BuildHookInterface[Any]):
    """A static force-include would copy the collection into an editable install as well, where it would go stale."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the collection's folders, and what is shipped beside them, to a real wheel."""
        if version != "editable":
            build_data["force_include"].update({part: f"{COLLECTION}/{part}" for part in PARTS})
            shipped = [path.relative_to(self.root) for pattern in SHIPPED for path in Path(self.root).glob(pattern)]
            build_data["force_include"].update({str(path): f"deployer/shipped/{path}" for path in shipped})
