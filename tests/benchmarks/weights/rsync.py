"""rsync over ssh, as one would do it by hand: from the controller, host by host."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.benchmarks.weights.hosts import TARGET, Fleet
from tests.benchmarks.weights.timing import Timing

# Nothing is there yet to compare with, and the place is the final one: the two options that save rsync work.
RSYNC = ("rsync", "--recursive", "--whole-file", "--inplace")
QUICK_CIPHER = ("-c", "aes128-gcm@openssh.com")  # what Debian's ssh prefers is chacha20-poly1305


def require_rsync() -> None:
    """Check that the controller has rsync.

    Raises:
        DeployError: it has not.
    """
    if shutil.which("rsync") is None:
        raise DeployError("The lab's machine lacks rsync", "apt-get install rsync")


def rsync(fleet: Fleet, hosts: Sequence[str], ssh_options: Sequence[str] = (), options: Sequence[str] = ()) -> Timing:
    """Copy the source to one host after the other.

    Args:
        fleet: the hosts.
        hosts: names.
        ssh_options: more words for the command line of ssh.
        options: and for rsync's.
    Raises:
        DeployError: rsync failed; its own words are the detail.
    """
    started, landed = {}, {}
    shell = shlex.join([*fleet.lab.ssh_args, *ssh_options])
    for name in hosts:
        target = f"{fleet.lab.hosts[name].address}:{TARGET}/"
        started[name] = time.time()
        done = subprocess.run(
            [*RSYNC, *options, "-e", shell, str(fleet.source), target],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        landed[name] = time.time()
        if done.returncode != 0:
            raise DeployError(f"rsync to {name} failed (exit status {done.returncode})", detail=done.stderr.strip())
    fleet.require_copies(hosts, f"{TARGET}/{fleet.source.name}")
    return Timing(started, landed)
