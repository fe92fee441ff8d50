"""A host's own disk: the layer above the base image that holds what makes it this host."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .base_image import USER


@dataclass(frozen=True)
class Disk:
    """An overlay of `folder`/up on `base`. Only the host's boot mounts it, in a mount namespace of its own."""

    folder: Path
    base: Path

    @property
    def upper(self) -> Path:
        return self.folder / "up"

    def create(self, host: str, addresses: Mapping[str, str], public_key: str) -> None:
        """Write the host's identity before its first boot.

        An empty machine id would make systemd treat the boot as the first one and apply its presets.

        Args:
            host: its name.
            addresses: of all hosts of the lab, by name. Torch stalls for minutes where its own name does not resolve.
            public_key: who may log in.
        """
        for name in ("up", "work", "root"):
            (self.folder / name).mkdir(parents=True)
        shutil.copystat(self.base, self.upper)
        names = [f"{address} {name}" for name, address in addresses.items()]
        self._write("etc/hostname", f"{host}\n")
        self._write("etc/hosts", "\n".join(["127.0.0.1 localhost", *names]) + "\n")
        self._write("etc/machine-id", f"{uuid.uuid4().hex}\n", mode=0o444)
        self._write(f"home/{USER}/.ssh/authorized_keys", public_key, mode=0o600)

    def install_host_key(self, private_key: Path) -> None:
        """Give the host its SSH key, made on the controller, so that it is known before the first contact."""
        self._write("etc/ssh/ssh_host_ed25519_key", private_key.read_text(), mode=0o600)

    def _write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.upper / path
        owner = self._ensure_folder(target.parent)
        target.write_text(text)
        target.chmod(mode)
        os.chown(target, owner.st_uid, owner.st_gid)

    def _ensure_folder(self, folder: Path) -> os.stat_result:
        """Make `folder` in the upper layer; as such it replaces the base's owner and mode, so take them over."""
        if not folder.exists():
            above = self._ensure_folder(folder.parent)
            folder.mkdir()
            below = self.base / folder.relative_to(self.upper)
            like = below.stat() if below.exists() else above
            folder.chmod(like.st_mode & 0o7777 if below.exists() else 0o700)
            os.chown(folder, like.st_uid, like.st_gid)
        return folder.stat()
