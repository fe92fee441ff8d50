"""What a machine needs before it can carry a lab."""

from __future__ import annotations

import os
import shutil

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

# command -> Debian package
COMMANDS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "tc": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}


def require_lab_machine() -> None:
    """Check that this machine can boot lab hosts.

    Raises:
        DeployError: not root, or commands are missing; the fix names the packages.
    """
    if os.geteuid() != 0:
        raise DeployError("The lab boots whole systems and needs root", fix="run it as root")
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        packages = sorted({COMMANDS[command] for command in missing})
        raise DeployError(
            f"The lab's machine lacks: {', '.join(missing)}",
            fix=f"apt-get install {' '.join(packages)}",
        )
