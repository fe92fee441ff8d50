"""Bringing a model's files whole, and verified."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.attempts import at_once, patiently
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.paths import inside
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import AGAIN, Problem
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.progress import Reporter
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import (
    File,
    Listing,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.source import BLOCK, Source

PARTS = (".part", ".incomplete", ".parallel_tmp")


def fetch(source: Source, listing: Listing, reporter: Reporter) -> Listing:
    """Bring the files, verified; what is there already is not fetched again.

    Returns:
        The listing, with every file's sha256.
    """
    order = source.order
    os.makedirs(order.folder, exist_ok=True)
    sizes = {file.path: file.size for file in listing.files}
    reporter.measure = lambda: on_disk(order.folder, sizes)
    reporter.start(listing)
    free, wanted = shutil.disk_usage(order.folder).free, listing.size - on_disk(order.folder, sizes)[0]
    if wanted > free:
        raise Problem(
            f"the disk of {order.folder} has {gib(free)} free, {gib(wanted)} are still to be fetched", "make room there"
        )
    patiently(lambda: source.fetch(listing), lambda: on_disk(order.folder, sizes)[0])
    reporter.report()
    # The libraries answer with a folder that lacks files where the hub cannot be reached any more.
    places = [inside(order.folder, file.path) for file in listing.files]
    for file, path in zip(listing.files, places):
        if not os.path.isfile(path) or os.path.getsize(path) != file.size:
            raise Problem(f"{file.path} of {order.name} did not arrive whole", AGAIN)
    digests = at_once(sha256_of, places, min(8, os.cpu_count() or 1))
    for file, path, sha256 in zip(listing.files, places, digests):
        if file.sha256:
            wanted_digest, digest = file.sha256, sha256
        else:
            wanted_digest, digest = file.blob, git_blob(path) if file.blob else ""
        if digest != wanted_digest:
            os.unlink(path)
            raise Problem(
                f"{file.path} of {order.name} is not the published file: {wanted_digest} wanted, got {digest}",
                "run it again: that file was removed, and is fetched anew",
            )
    tidy(order.folder, source.leftovers)
    files = (File(file.path, file.size, sha256) for file, sha256 in zip(listing.files, digests))
    return Listing(listing.commit, tuple(files))


def tidy(folder: str, leftovers: Sequence[str]) -> None:
    """Remove what a library leaves beside the model."""
    for name in leftovers:
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(folder, ".cache"))


def on_disk(folder: str, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Bytes of the wanted files that are there, parts included, and how many files are whole."""
    size, whole = 0, 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, folder)
            try:
                stat = os.stat(path)
            except FileNotFoundError:  # renamed meanwhile
                continue
            if relative in sizes:
                size += min(stat.st_size, sizes[relative])
                whole += stat.st_size == sizes[relative]
            elif name.endswith(PARTS) or relative.startswith("._____temp"):
                size += min(stat.st_size, stat.st_blocks * 512)  # room may be reserved before it is written
    return min(size, sum(sizes.values())), whole


def hashed(path: str, digest: Any) -> str:
    """The digest of a file's content, in hex.

    Args:
        digest: of hashlib, with what comes before the content in it.
    """
    with open(path, "rb", buffering=0) as stream:
        while block := stream.read(4 * BLOCK):
            digest.update(block)
    return str(digest.hexdigest())


def sha256_of(path: str) -> str:
    """sha256 of a file, in hex."""
    return hashed(path, hashlib.sha256())


def git_blob(path: str) -> str:
    """The id that git gives to the content of a file, in hex."""
    return hashed(path, hashlib.sha1(b"blob %d\0" % os.path.getsize(path)))


def gib(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.1f} GiB"
