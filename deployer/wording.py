"""Words that everything that speaks to people uses; those of hosts are the same."""

from __future__ import annotations

from ansible_collections.deployer.sglang.plugins.module_utils.wording import counted, printable

__all__ = ["counted", "printable"]
