"""Weights from a hub or a web folder, on the controller: fetched once, kept for every host and run."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, sync_filesystem, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import identity
from ansible_collections.deployer.sglang.plugins.module_utils.weights import fetching
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import Listing
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetching import OnProgress, Runner
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import Rules
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import HTTP, HUGGINGFACE, Source
from ansible_collections.deployer.sglang.plugins.plugin_utils import hashes
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import (
    cache_file,
    cache_folder,
    cache_path,
    read_cache,
)

FOLDER_VARIABLE = "SGLANG_DEPLOYER_WEIGHTS"
KIND = "fetched"  # of the cache: what is complete


def resolve_source(source: Source, variables: Mapping[str, str]) -> Listing:
    """What a source is now.

    Args:
        source: a hub or a web folder.
        variables: environment variables for asking it, such as credentials from the vault; they win over those of this
            process.
    Raises:
        DeployError: as `fetching.resolve`.
    """
    return fetching.resolve(_runner(variables), source)


@contextmanager
def source_facts_folder(source: Source, resolved: Listing, rules: Rules, variables: Mapping[str, str]) -> Iterator[str]:
    """A temporary folder with the skeleton of the model, for `list_files` and `read_model`.

    Args:
        source: a hub or a web folder.
        resolved: the state that it has to be of.
        rules: what is left out.
        variables: as `resolve_source`.
    Raises:
        DeployError: as `fetching.write_skeleton`.
    """
    with tempfile.TemporaryDirectory(prefix="sglang-deployer-") as folder:
        fetching.write_skeleton(_runner(variables), source, folder, resolved.commit, _wanted(source, resolved, rules))
        yield folder


def fetched_folder(source: Source, rules: Rules, on_progress: OnProgress, variables: Mapping[str, str]) -> str:
    """The folder of this controller that has the source's files, fetched unless it has them.

    Ansible runs one process a host: the first of them fetches, the others wait for it.

    Args:
        source: a hub or a web folder. Where its revision is no commit, it is asked for what that is now.
        rules: what is not fetched.
        on_progress: called about once a second while it is fetched.
        variables: as `resolve_source`.
    Raises:
        DeployError: as `fetching.fetch`; or this user can write no cache.
    """
    state = _state(rules)
    folder, resolved = _place(source, variables)
    with cache_file(KIND, folder) as path:
        if _is_complete(folder, state, read_cache(path)):
            return folder
        resolved = resolved or resolve_source(source, variables)
        wanted = _wanted(source, resolved, rules)
        with _disk_errors_explained(folder):
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            fetched = fetching.fetch(_runner(variables), source, folder, resolved.commit, wanted, on_progress)
            sync_filesystem(folder)  # what is recorded as complete is so after a power cut, too
            _keep_hashes(folder, fetched)
            sizes = {file.path: file.size for file in fetched.files}
            write_file(path, pretty_json({**state, "source": source.text, "files": sizes}), 0o600)
    return folder


def is_fetched(source: Source, rules: Rules, variables: Mapping[str, str]) -> bool:
    """Whether the files of the source are on this controller, in the state that they have now; arguments as above.

    Raises:
        DeployError: as `resolve_source`.
    """
    folder, _ = _place(source, variables)
    return _is_complete(folder, _state(rules), read_cache(cache_path(KIND, folder)))


def weights_folder(source: Source, commit: str) -> str:
    """Where the files of one state of a source are kept."""
    parent = os.environ.get(FOLDER_VARIABLE) or str(cache_folder() / "weights")
    return os.path.join(os.path.abspath(os.path.expanduser(parent)), f"{readable_name(source)}-{commit[:12]}")


def readable_name(source: Source) -> str:
    """What a folder or an artifact from a source is called."""
    if source.kind == HTTP:
        url = urlsplit(source.url)
        name = f"{url.netloc}{unquote(url.path)}"
    else:
        name = source.repository
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[-80:].lstrip("-.") or "model"


def _place(source: Source, variables: Mapping[str, str]) -> tuple[str, Listing | None]:
    """Where the files of the source as it is now are kept; and what it is, unless its revision says that already."""
    if source.kind == HUGGINGFACE and source.pinned:
        return weights_folder(source, source.revision), None
    resolved = resolve_source(source, variables)
    return weights_folder(source, resolved.commit), resolved


def _state(rules: Rules) -> dict[str, list[str]]:
    """What was left out, as the record of a fetched folder has it."""
    return {"exclude": sorted(rules.exclude), "include": sorted(rules.include)}


def _runner(variables: Mapping[str, str]) -> Runner:
    # In the child, -I leaves out what pip installed for this user alone.
    return Runner(sys.executable, [folder for folder in sys.path if os.path.isabs(folder)], variables)


def _wanted(source: Source, resolved: Listing, rules: Rules) -> list[str]:
    wanted = [file.path for file in resolved.files if rules.reason(file.path) is None]
    if not wanted:
        raise DeployError(f"{source.text} has no files of a model", "correct the source")
    return wanted


def _is_complete(folder: str, state: dict[str, list[str]], record: dict[str, Any]) -> bool:
    files = record.get("files")
    if any(record.get(key) != value for key, value in state.items()) or not isinstance(files, dict) or not files:
        return False
    with contextlib.suppress(OSError):
        return all(os.stat(os.path.join(folder, path)).st_size == size for path, size in files.items())
    return False


def _keep_hashes(folder: str, fetched: Listing) -> None:
    """What was hashed on arrival need not be read again for the manifest."""
    known = {identity(os.path.join(folder, file.path)): file.sha256 for file in fetched.files}
    with cache_file(hashes.KIND, os.path.realpath(folder)) as path:
        write_file(path, pretty_json({**read_cache(path), **known}), 0o600)


@contextmanager
def _disk_errors_explained(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = f"see that disk, or name a folder on another one in {FOLDER_VARIABLE}"
        raise DeployError(f"{error.filename or folder}: {error.strerror or error}", fix) from None
