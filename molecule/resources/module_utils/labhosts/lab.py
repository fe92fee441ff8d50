"""A lab: create all of its hosts, find them again from another process, leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

from .base_image import USER, ensure_base
from .cgroups import remove_cgroup
from .command import run
from .disk import Disk
from .host import LabHost
from .inventory import ansible_inventory, molecule_instances, ssh_options
from .ledger import Entry, Ledger
from .locks import locked
from .network import HostNetwork, choose_number, create_bridge, numbers_in_use
from .platforms import NAME, Platform, assign_addresses, explicit_number, parse_platforms
from .processes import end
from .requirements import require_lab_machine


def state_root() -> Path:
    """Folder of all labs of this machine's user."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "sglang-deployer" / "lab"


@dataclass(frozen=True)
class Lab:
    """A lab by its name.

    Args:
        name: of the lab; labs of different names live side by side.
        folder: all that belongs to it on disk.
    """

    name: str
    folder: Path

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.json"

    @property
    def private_key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def ssh_args(self) -> tuple[str, ...]:
        """The command line of ssh up to the address: no shared connection, which would outlive a power cut."""
        waiting = ("ConnectTimeout=5", "ServerAliveInterval=5", "ServerAliveCountMax=3")
        settings = [word for setting in ("BatchMode=yes", "ControlPath=none", *waiting) for word in ("-o", setting)]
        return ("ssh", *ssh_options(self.private_key, self.known_hosts), *settings, "-l", USER)

    @property
    def hosts(self) -> dict[str, LabHost]:
        """The hosts by name, running or not."""
        described = json.loads(self._description.read_text())
        return {
            name: LabHost(
                platform=Platform(**described["platforms"][name]),
                network=HostNetwork(self.name, name, address),
                disk=Disk(self.folder / "hosts" / name, Path(described["bases"][name])),
                ssh_args=self.ssh_args,
                ledger=self.ledger,
            )
            for name, address in described["addresses"].items()
        }

    @property
    def exists(self) -> bool:
        """Whether anything of the lab is left on disk; without that, nothing of it is left at all."""
        return self.folder.exists()

    @property
    def ledger(self) -> Ledger:
        """What the lab has made on this machine."""
        return Ledger(self.folder / "ledger.jsonl")

    @property
    def molecule_instances(self) -> list[dict[str, Any]]:
        return molecule_instances({name: host.address for name, host in self.hosts.items()}, self.private_key)

    def create(self, described: Sequence[Mapping[str, Any]]) -> None:
        """Boot new hosts and wait until all answer by SSH; whatever an earlier run left is removed first.

        Args:
            described: Molecule's platforms.

        Raises:
            DeployError: a platform is described wrongly, this machine lacks something, or a host does not come up.
                Nothing is left of the lab then.
        """
        require_lab_machine()
        platforms = parse_platforms(described)
        with self._lock():
            self._remove()
            bases = {suite: ensure_base(suite) for suite in sorted({platform.base for platform in platforms})}
            try:
                self._create(platforms, bases)
            except BaseException:
                self._remove()
                raise

    def destroy(self) -> None:
        """Remove all that the lab made; a lab that is gone already is no error."""
        with self._lock():
            self._remove()

    @property
    def _description(self) -> Path:
        return self.folder / "lab.json"

    @property
    def _sockets(self) -> Path:
        return self.folder / "ssh"

    def _lock(self) -> AbstractContextManager[None]:
        return locked(self.folder.parent / ".locks" / self.name)

    def _create(self, platforms: Sequence[Platform], bases: Mapping[str, Path]) -> None:
        number = self._claim(platforms, bases)
        addresses = {name: host.address for name, host in self.hosts.items()}
        self._sockets.mkdir(mode=0o700)
        _generate_key(self.private_key, self.name)
        options = ssh_options(self.private_key, self.known_hosts)
        self.inventory.write_text(
            json.dumps(ansible_inventory(platforms, addresses, options, self._sockets), indent=2) + "\n"
        )
        create_bridge(self.name, number, self.ledger)
        for host in self.hosts.values():
            self._furnish(host, addresses)
            host.network.create(self.ledger)
            if host.platform.bandwidth:
                host.shape(host.platform.bandwidth)
            host.boot(wait=False)
        for host in self.hosts.values():
            host.wait_until_up()

    def _claim(self, platforms: Sequence[Platform], bases: Mapping[str, Path]) -> int:
        """Take a network that no other lab has and write the lab's description, which is the claim."""
        with locked(self.folder.parent / ".locks" / ".network"):
            taken = numbers_in_use() | set(self._claimed())
            wanted = explicit_number(platforms)
            if wanted in taken:
                raise DeployError(f"10.97.{wanted}.0/24 is in use on this machine", fix="choose other addresses")
            number = choose_number(self.name, taken) if wanted is None else wanted
            self.folder.mkdir(parents=True, mode=0o700)
            self._description.write_text(
                json.dumps(
                    {
                        "number": number,
                        "platforms": {platform.name: asdict(platform) for platform in platforms},
                        "addresses": assign_addresses(platforms, number),
                        "bases": {platform.name: str(bases[platform.base]) for platform in platforms},
                    },
                    indent=2,
                )
            )
        return number

    def _claimed(self) -> Iterator[int]:
        for description in self.folder.parent.glob("*/lab.json"):
            with suppress(FileNotFoundError, json.JSONDecodeError):
                yield json.loads(description.read_text())["number"]

    def _furnish(self, host: LabHost, addresses: Mapping[str, str]) -> None:
        public_key = self.private_key.with_suffix(".pub").read_text()
        host.disk.create(host.name, addresses, public_key)
        key = host.disk.folder / "ssh_host_ed25519_key"
        _generate_key(key, host.name)
        host.disk.install_host_key(key)
        with self.known_hosts.open("a") as known:
            known.write(f"{host.address} {key.with_suffix('.pub').read_text()}")

    def _remove(self) -> None:
        for socket in self._sockets.glob("*"):
            # Ansible keeps a connection open for later tasks. One that has ended by itself is no error.
            closing = ["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "lab"]
            subprocess.run(closing, capture_output=True, check=False)
        # Newest first, but no control group or network is free while a process is in it. A link must go before its
        # namespace, with which the kernel would remove it some time later.
        newest_first = reversed(self.ledger.entries())
        for entry in sorted(newest_first, key=lambda entry: entry.kind != "process"):
            _undo(entry)
        if self.folder.exists():
            shutil.rmtree(self.folder)


def open_lab(name: str) -> Lab:
    """The lab called `name`, which need not exist yet.

    Raises:
        DeployError: that is not a name for a lab.
    """
    if not NAME.fullmatch(name):
        raise DeployError(f"{name!r} is not a name for a lab", fix="use at most 32 of a-z, 0-9 and -")
    return Lab(name, state_root() / name)


def _undo(entry: Entry) -> None:
    """Remove what the entry names, if it is there."""
    if entry.process is not None:
        end(entry.process)
    elif entry.kind == "cgroup":
        remove_cgroup(Path(entry.name))
    elif entry.kind == "link":
        _delete(Path("/sys/class/net", entry.name), ["ip", "link", "delete", entry.name])
    else:
        _delete(Path("/run/netns", entry.name), ["ip", "netns", "delete", entry.name])


def _delete(thing: Path, command: Sequence[str]) -> None:
    """Run `command` to remove `thing`, which may be gone already, or be on its way: the kernel frees links later."""
    try:
        if thing.exists():
            run(command)
    except DeployError:
        if thing.exists():
            raise


def _generate_key(path: Path, comment: str) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
