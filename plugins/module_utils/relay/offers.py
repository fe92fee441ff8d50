"""What a seed offers: a folder of this machine as one model."""

from __future__ import annotations

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, identity, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Offer
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import Rules


def offer_of(folder: str, manifest: Manifest, rules: Rules) -> Offer:
    """The files of a folder, in the state that they are in now: what differs from the manifest, receivers find out.

    Args:
        folder: on this machine.
        manifest: what it held when it was hashed.
        rules: what belongs to the model.
    Raises:
        DeployError: there are other files now.
    """
    files = list_files(folder, rules)
    if set(files) != {entry.path for entry in manifest.files}:
        raise DeployError(f"{folder} changed after it was hashed", "wait until it is complete, then run again")
    return Offer(manifest, files, {path: identity(real) for path, real in files.items()})
