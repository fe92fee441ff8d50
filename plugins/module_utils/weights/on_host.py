"""What a host has of a model already: in its place, in another model, or left by a transfer that broke."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.deployer.sglang.plugins.module_utils import incoming
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file, read_json
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, ManifestFile, identity
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import missing_from_model
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE

FICLONE = 0x40049409  # <linux/fs.h>: share another file's blocks, on file systems that can


@dataclass(frozen=True)
class Bringing:
    """What has to happen for a host to have a model.

    Attributes:
        needed: files that are not in the model's folder.
        links: path in the model -> file with the same content that the host has in another model.
        arrived: path in the model -> bytes that lie in the incoming folder already; not verified yet.
        states: path in the model -> `manifest.identity` of the file that `links` has for it.
    """

    needed: Manifest
    links: dict[str, str]
    arrived: dict[str, int]
    states: dict[str, str] = field(default_factory=dict)

    @property
    def to_send(self) -> Manifest:
        """Files of which bytes have to be sent, or to be verified where all of them have arrived."""
        return Manifest(tuple(one for one in self.needed.files if one.path not in self.links))

    @property
    def bytes_to_send(self) -> int:
        """Bytes that will travel, and take room on the disk."""
        # Of files that are equal, one travels.
        sizes = {one.sha256: one.size for one in self.to_send.files}
        return max(0, sum(sizes.values()) - sum(self.arrived.values()))


def bringing(store: Store, name: str, manifest: Manifest) -> Bringing:
    """Compare a model's manifest with what the host has.

    Args:
        store: of the host.
        name: of the model's folder.
        manifest: of the model.
    Raises:
        DeployError: a file of the model was changed after it was verified.
    """
    needed = missing_from_model(store.model(name, manifest.digest), manifest)
    known = known_files(store) if needed.files else {}
    links = {one.path: known[one.sha256] for one in needed.files if known.get(one.sha256)}
    arriving = store.incoming(manifest.digest)
    arrived = {one.path: min(_size(os.path.join(arriving, one.path)), one.size) for one in needed.files}
    return Bringing(
        needed,
        links,
        {path: size for path, size in arrived.items() if size and path not in links},
        {path: identity(existing) for path, existing in links.items()},
    )


def known_files(store: Store) -> dict[str, str]:
    """sha256 -> path of every file of every model on the host that is still what was verified."""
    found: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for folder in sorted(os.listdir(store.models)):
            found.update(_verified_files(os.path.join(store.models, folder)))
    return found


def give_links(
    store: Store, name: str, manifest: Manifest, links: Mapping[str, str], states: Mapping[str, str]
) -> None:
    """Give files that the host has their names where a model lands: `incoming.land` then brings the others.

    They do not lie where files arrive: a file with two names is refused there.

    Args:
        store: of the host.
        name: of the model's folder.
        manifest: of the model.
        links: path in the model -> verified file with the same content.
        states: as `Bringing.states`, for those that may have changed since they were looked at.
    Raises:
        DeployError: a file was changed, or removed, since it was looked at.
    """
    landing = incoming.landing_place(store.incoming(manifest.digest), store.model(name, manifest.digest))
    entries = {entry.path: entry for entry in manifest.files}
    for path, existing in links.items():
        new = os.path.join(landing, path)
        os.makedirs(os.path.dirname(new), mode=0o755, exist_ok=True)
        try:
            link(existing, new, entries[path])
        except FileNotFoundError:
            raise DeployError(f"{existing} was removed meanwhile", "run again: it is sent then") from None
        same = os.stat(new).st_ino != os.stat(existing).st_ino or identity(new) == states.get(path, identity(new))
        if not same and hash_file(new) != entries[path].sha256:
            os.unlink(new)
            raise DeployError(
                f"{existing} was changed after it was verified",
                "remove that file on the host and deploy again: it is sent anew; then look at the disk",
            )


def link(existing: str, path: str, entry: ManifestFile) -> None:
    """Give `existing` a second name, or a copy where the file system has no room for one more name.

    Args:
        existing: a verified file with the content of `entry`.
        path: the new name; what is there is replaced.
        entry: what the manifest says.
    Raises:
        DeployError: the copy differs.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        os.link(existing, path)
        return
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP):
            raise
    with open(existing, "rb") as source, open(path, "xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), FICLONE, source.fileno())
        except OSError:
            shutil.copyfileobj(source, copy, 1 << 20)
    if hash_file(path) != entry.sha256:
        raise DeployError(f"{existing} differs from its manifest", f"remove {os.path.dirname(existing)} and run again")


def _verified_files(folder: str) -> dict[str, str]:
    try:
        record = read_json(os.path.join(folder, MANIFEST_FILE)) or {}
        manifest = Manifest.from_dict(record)
        verified = dict(record["verified"])
    except (DeployError, KeyError, TypeError, ValueError, OSError):
        return {}  # it is another model's, and looked at when that is deployed
    found = {}
    for entry in manifest.files:
        path = os.path.join(folder, entry.path)
        with contextlib.suppress(OSError):
            if identity(path) == verified.get(entry.path):
                found[entry.sha256] = path
    return found


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
