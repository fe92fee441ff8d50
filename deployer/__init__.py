"""The controller of SGLang deployments: plans, runs and reports the collection's playbooks.

from deployer import Deployer

print(Deployer("fleet/hosts.yml").plan().exit_code)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deployer.api import Deployer, DeployError

__version__ = "0.1.0"
__all__ = ["DeployError", "Deployer", "__version__"]


def __getattr__(name: str) -> Any:
    """The API, imported when it is asked for: `python -m deployer --help` does without."""
    if name in ("Deployer", "DeployError"):
        from deployer import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
