"""The read-only system below every host's disk: built once by debootstrap, cached outside the repository."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

from .apt_sources import apt_proxies, machine_mirror
from .command import run
from .locks import locked

USER = "deploy"
SUITES = ("bullseye", "bookworm", "trixie")  # Python 3.9, 3.11, 3.13
PACKAGES = (
    "ca-certificates",
    "cron",
    "dbus",
    "dbus-user-session",
    "iproute2",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "python3",
    "python3-venv",
    "rsync",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# Runs inside the new system. What differs from host to host (keys, ids, names) is removed: disk.py writes it.
SETUP = f"""\
useradd --create-home --shell /bin/bash {USER}
echo '{USER} ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER}
chmod 0440 /etc/sudoers.d/{USER}
printf 'PermitRootLogin no\\nPasswordAuthentication no\\n' > /etc/ssh/sshd_config.d/lab.conf
echo LANG=C.UTF-8 > /etc/default/locale
echo LANG=C.UTF-8 > /etc/locale.conf
mkdir -p /var/log/journal
# A host has no way out to a mirror: its timers would only fail.
systemctl mask apt-daily.timer apt-daily-upgrade.timer
rm -f /etc/ssh/ssh_host_* /etc/machine-id /etc/hostname
: > /etc/resolv.conf
apt-get clean
rm -rf /var/lib/apt/lists/*
"""


def ensure_base(suite: str) -> Path:
    """The base image of a Debian release, built if the cache lacks it (about a minute, 330 MB).

    Raises:
        DeployError: debootstrap failed; the detail is the end of its log.
    """
    base = cache_root() / image_name(suite)
    with locked(base.with_name(f"{base.name}.lock")):
        if not base.exists():
            _build(suite, base)
    return base


def image_name(suite: str) -> str:
    """`<suite>-<digest>`: another recipe is another image."""
    recipe = json.dumps([suite, PACKAGES, SETUP])
    return f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def cache_root() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sglang-deployer" / "lab"


def _build(suite: str, base: Path) -> None:
    partial = base.with_name(f"{base.name}.partial")
    run(["rm", "--recursive", "--force", "--one-file-system", str(partial)])
    mirror = machine_mirror()
    debootstrap = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(partial)]
    log = base.with_name(f"{base.name}.log")
    log.unlink(missing_ok=True)
    _contained([*debootstrap, mirror] if mirror else debootstrap, log)
    _contained(["chroot", str(partial), "/bin/sh", "-euc", SETUP], log)
    partial.rename(base)


def _contained(argv: Sequence[str], log: Path) -> None:
    """Run a build step in namespaces that die with this process: a killed build leaves no process and no mount."""
    box = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    with log.open("a") as output:
        status = subprocess.run(
            [*box, *argv],
            env={**os.environ, **apt_proxies(), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status != 0:
        raise DeployError(
            f"Building the lab's base image failed in `{argv[0]}` (exit status {status})",
            fix=f"read {log}; the mirror is the one that apt is configured with on this machine",
            detail="\n".join(log.read_text(errors="replace").splitlines()[-15:]),
        )
