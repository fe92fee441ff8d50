"""One lab host: power, cable, and a way in."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

from .cgroups import host_cgroups
from .disk import Disk
from .ledger import Entry, Ledger
from .network import HostNetwork
from .platforms import Platform
from .processes import end, identify

BOOT_TIMEOUT = 120.0  # seconds; a boot takes about 1 on two idle cores
ASK_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"

# The process that carries a host. It waits for a word on standard input, so that nothing has happened yet when the
# controller writes down its pid, and moves into the host's control groups before anything can be started in others.
CARRIER = """\
read -r _
exec </dev/null
for group in {groups}; do
    echo 0 > "$group/cgroup.procs"
done
exec unshare --mount --mount-proc --pid --fork --kill-child sh -euc {supervisor}
"""
# Runs as PID 1 of a PID namespace, in a mount namespace of its own: when it is killed the kernel ends every process of
# the host and drops its mounts. (Killing only systemd-nspawn leaves the host's systemd running.)
# systemd-nspawn cannot restart a host by itself when it runs outside a systemd unit: it exits with 133.
SUPERVISOR = """\
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
cd {folder}
mount -t overlay overlay -o lowerdir={base},upperdir=up,workdir=work root
while :; do
    status=0
    {nspawn} || status=$?
    [ "$status" -eq 133 ] || exit "$status"
done
"""


@dataclass(frozen=True)
class LabHost:
    """A host of a lab; see `Lab.hosts`.

    Args:
        platform: how the scenario describes it.
        network: its address and cable.
        disk: its own layer.
        ssh_args: command line of ssh up to the host's address.
        ledger: where the lab writes down what it makes.
    """

    platform: Platform
    network: HostNetwork
    disk: Disk
    ssh_args: tuple[str, ...]
    ledger: Ledger

    @property
    def name(self) -> str:
        return self.platform.name

    @property
    def address(self) -> str:
        return self.network.address

    @property
    def console(self) -> Path:
        """What the host printed while booting."""
        return self.disk.folder / "console.log"

    @property
    def running(self) -> bool:
        process = self.ledger.process_of(self.name)
        return process is not None and process.alive

    def ssh(
        self, command: str, *, check: bool = False, stdin: str | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host as the ordinary user, who may use sudo.

        Args:
            command: for the user's shell.
            check: raise CalledProcessError when it fails.
            stdin: its standard input.
            timeout: seconds, after which TimeoutExpired is raised.
        """
        return subprocess.run(
            [*self.ssh_args, self.address, command],
            input=stdin or "",
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout,
        )

    def boot(self, wait: bool = True) -> None:
        """Switch the host on; with `wait`, until it answers by SSH.

        Raises:
            DeployError: it is on already, or does not come up.
        """
        if self.running:
            raise DeployError(f"Lab host {self.name} is already running")
        groups = host_cgroups(self.network.lab, self.name)
        for group in groups:
            self.ledger.record(Entry("cgroup", str(group)))
            group.mkdir(exist_ok=True)
        reader, writer = os.pipe()
        with os.fdopen(reader), os.fdopen(writer, "w") as word:
            pid = self._spawn(reader, groups)
            self.ledger.record(Entry("process", self.name, identify(pid)))
            word.write("go\n")
        if wait:
            self.wait_until_up()

    def power_cut(self) -> None:
        """Take the power away: nothing on the host gets a chance to do anything."""
        process = self.ledger.process_of(self.name)
        if process is not None:
            end(process)

    def reboot(self) -> None:
        """Restart the host in order and wait until it answers again."""
        before = self.boot_id()
        # The connection goes down with the host: its exit status says nothing.
        self.ssh("sudo systemctl reboot")
        self.wait_until_up(after=before)

    def link(self, up: bool) -> None:
        """Pull the network cable out, or put it back."""
        self.network.plug(up)

    def shape(self, bandwidth: str) -> None:
        """Limit the host's link in both directions, in the words of tc(8): `160mbit`."""
        self.network.shape(bandwidth)

    def boot_id(self) -> str:
        """The kernel's name for this boot of the host; empty when the host does not answer."""
        return self.ssh(ASK_BOOT_ID).stdout.strip()

    def wait_until_up(self, after: str = "") -> None:
        """Wait until the host answers by SSH, in another boot than `after`.

        Raises:
            DeployError: it went down, or `BOOT_TIMEOUT` seconds passed; the detail is the end of its console.
        """
        deadline = time.monotonic() + BOOT_TIMEOUT
        while (answer := self.ssh(ASK_BOOT_ID)).stdout.strip() in ("", after):
            if not self.running or time.monotonic() > deadline:
                state = "is switched on, but does not answer by SSH" if self.running else "has switched itself off"
                console = self.console.read_text(errors="replace").splitlines()
                raise DeployError(
                    f"Lab host {self.name} ({self.address}) {state}",
                    detail="\n".join([*console[-30:], answer.stderr.strip()]),
                )
            time.sleep(0.1)

    def _spawn(self, stdin: int, groups: list[Path]) -> int:
        """Start the carrier in a session of its own, and return its pid; it outlives the caller."""
        nspawn = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--directory=root",
            f"--machine={self.network.lab}-{self.name}",
            f"--hostname={self.name}",
            f"--network-namespace-path=/run/netns/{self.network.namespace}",
            "--resolv-conf=off",
            "--timezone=off",
            *(_bind_option(bind) for bind in self.platform.binds),
            "--boot",
        ]
        supervisor = SUPERVISOR.format(
            folder=shlex.quote(str(self.disk.folder)), base=shlex.quote(str(self.disk.base)), nspawn=shlex.join(nspawn)
        )
        carrier = CARRIER.format(groups=shlex.join(map(str, groups)), supervisor=shlex.quote(supervisor))
        console = os.open(self.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return os.posix_spawnp(
                "sh",
                ["sh", "-euc", carrier],
                # Hosts run with control groups v2 alone, as current distributions do, whatever this machine mounts.
                {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, console, 1),
                    (os.POSIX_SPAWN_DUP2, console, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(console)


def _bind_option(bind: str) -> str:
    return f"--bind-ro={bind[:-3]}" if bind.endswith(":ro") else f"--bind={bind}"
