"""Weights that a host fetches for the whole fleet: they land in its own store, and are served from there."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import incoming
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    exclusive_lock,
    pretty_json,
    read_json,
    write_file,
)
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, build_manifest, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import Listing
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetching import Runner, fetch, resolve
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import (
    check_source,
    manifest_record,
    missing_from_model,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE, Rules
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import Source


@dataclass(frozen=True)
class FetchedModel:
    """A model that was fetched: its folder in the store, its manifest, and whether it was fetched just now."""

    folder: str
    manifest: Manifest
    changed: bool


def fetched_model(
    store: Store,
    name: str,
    source: Source,
    rules: Rules,
    prefixes: Sequence[str],
    variables: Mapping[str, Any],
) -> FetchedModel:
    """Fetch a model unless this host has that very state of it.

    Args:
        store: of the host.
        name: of the model's folder.
        source: a hub or a web folder. Where its revision is no commit, it is asked for what that is now.
        rules: what belongs to the model.
        prefixes: of environments, of which one may have the hub's library.
        variables: environment variables for fetching, credentials among them.
    Raises:
        DeployError: it cannot be fetched, does not fit on the disk, or is not a whole model.
    """
    words = {key: str(value) for key, value in variables.items()}
    resolved = None if source.pinned else resolve(_runner(source, prefixes, words), source)
    state = f"{source.text} {resolved.commit if resolved else source.revision} {rules} {name}"
    key = hashlib.sha256(state.encode()).hexdigest()
    record = os.path.join(store.shared_caches, "sources", f"{key}.json")
    os.makedirs(os.path.dirname(record), mode=0o755, exist_ok=True)
    with exclusive_lock(f"{record}.lock"):
        known = read_json(record)
        if known is not None:
            manifest = Manifest.from_dict(known)
            target = store.model(name, manifest.digest)
            if os.path.isdir(target) and not missing_from_model(target, manifest).files:
                return FetchedModel(target, manifest, changed=False)
        runner = _runner(source, prefixes, words)
        manifest = _fetch(store, name, source, rules, runner, resolved or resolve(runner, source), key)
        write_file(record, pretty_json(manifest.as_dict()), 0o600)
    return FetchedModel(store.model(name, manifest.digest), manifest, changed=True)


def _fetch(
    store: Store, name: str, source: Source, rules: Rules, runner: Runner, resolved: Listing, key: str
) -> Manifest:
    """Fetch into the incoming folder, as whoever the library belongs to; take it back, hash it, and let it land."""
    arriving = store.incoming(key)
    wanted = [one.path for one in resolved.files if rules.reason(one.path) is None]
    sizes = {one.path: one.size for one in resolved.files}
    incoming.claim(arriving)
    there = sum(os.path.getsize(os.path.join(parent, one)) for parent, _, files in os.walk(arriving) for one in files)
    incoming.check_room(arriving, sum(sizes[path] for path in wanted) - there, source.text)
    if runner.become:
        incoming.hand_over(arriving, int(runner.become["user"]))
    try:
        fetch(runner, source, arriving, resolved.commit, wanted)
    finally:
        incoming.claim(arriving)
    check_source(list_files(arriving, rules), source.text)
    manifest = build_manifest(arriving, rules)
    target = store.model(name, manifest.digest)
    needed = missing_from_model(target, manifest)
    if needed.files:
        record = manifest_record(manifest, arriving, target)
        incoming.land(arriving, target, needed, {MANIFEST_FILE: record})
    else:  # it was there, from another source or by other rules
        shutil.rmtree(arriving)
    return manifest


def _runner(source: Source, prefixes: Sequence[str], variables: Mapping[str, str]) -> Runner:
    """The Python that fetches: one of an environment, run as the owner of that; the host's own where it will do."""
    library = source.needs_library
    if not library:
        return Runner(sys.executable, variables=variables)
    for prefix in prefixes:
        if glob.glob(os.path.join(glob.escape(prefix), "lib", "python3*", "site-packages", library)):
            return Runner(os.path.join(prefix, "bin", "python"), variables=variables, become=_as_owner(prefix))
    looked = f" ({', '.join(prefixes)})" if prefixes else ""
    raise DeployError(
        f"no environment of this host{looked} has the package {library}, which fetches {source.text}",
        f"add {library} to an environment that a service uses, or leave out fetch_on: the controller fetches then",
    )


def _as_owner(prefix: str) -> dict[str, Any]:
    """Popen's arguments to run as the owner of an environment: root runs nothing that somebody else could change."""
    about = os.stat(prefix)
    if os.geteuid() != 0 or about.st_uid == 0:
        return {}
    return {"user": about.st_uid, "group": about.st_gid, "extra_groups": []}
