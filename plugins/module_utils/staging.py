"""Staging a release on a host: its folder, its texts, and the engine's own word that it takes the options."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import client_kit
from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    point_link,
    pretty_json,
    read_text,
    sync_directory,
    write_file,
)
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    GATE_FILE,
    HANDOVER_FILE,
    LAUNCH_FILE,
    Release,
    StagedRelease,
    files_of,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store

OPTION_CHECK_TIMEOUT = 300  # seconds; importing torch and the engine from a cold disk takes a while


@dataclass(frozen=True)
class Change:
    """What is at a path now, '' for nothing, and what is to be there: a file's text, or a link's target."""

    before: str
    after: str


@dataclass(frozen=True)
class Settings:
    """What is staged with a release and is no part of it: a change of it restarts nothing.

    Attributes:
        gate: what it has to pass (`service.Gate`).
        handover: how requests are kept away while it replaces another (`service.Handover`).
        kit: what its clients test and learn it by, file name -> text (`client_kit.KIT_FILES`).
    """

    gate: Mapping[str, Any]
    handover: Mapping[str, Any]
    kit: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """Path below the release's folder -> text."""
        kit = {client_kit.kit_path(name): text for name, text in self.kit.items()}
        return {GATE_FILE: pretty_json(dict(self.gate)), HANDOVER_FILE: pretty_json(dict(self.handover)), **kit}


def changes(staged: StagedRelease, settings: Settings, role: str) -> dict[str, Change]:
    """What `stage` would write, by path; empty when all of it is there."""
    folder = _folder(staged.release)
    texts = {**files_of(staged), **settings.files}
    wanted = {os.path.join(folder.release(staged.id), name): text for name, text in texts.items()}
    different = {path: Change(read_text(path) or "", text) for path, text in wanted.items() if read_text(path) != text}
    if role == "predecessor" and folder.release_of(role) != staged.id:
        before = folder.release_of(role)
        different[folder.link(role)] = Change(_target(before) if before else "", _target(staged.id))
    return different


def shown_change(path: str, change: Change) -> Change:
    """A change as a diff shows it: of a kit's file that is new, hundreds of lines say less than how many they are."""
    if not change.before and client_kit.is_kit_path(path):
        return Change("", f"({len(change.after.splitlines())} lines for clients)\n")
    return change


def stage(staged: StagedRelease, settings: Settings, role: str) -> None:
    """Put a release into its folder; what is there and differs from what was staged is written anew.

    Args:
        staged: the release and its texts.
        settings: what is no part of it.
        role: `service`, or `predecessor`: what rollback falls back to.
    Raises:
        DeployError: the installed engine refuses the options, or the service's user cannot run it.
    """
    different = changes(staged, settings, role)
    folder = _folder(staged.release)
    target = folder.release(staged.id)
    if any(os.path.join(target, name) in different for name in files_of(staged)):
        _make_folders(staged.release, folder)
        check_options(staged.release)
        _write_release(staged, settings, folder)
    else:
        for name, text in settings.files.items():
            if os.path.join(target, name) in different:
                _write(target, name, text)
    if folder.link(role) in different:
        point_link(folder.link(role), _target(staged.id))


def check_options(release: Release) -> None:
    """Let the installed engine's own parser read the arguments, as the user who will run them.

    Raises:
        DeployError: it refuses them, or cannot be run by that user.
    """
    engine = engine_named(release.engine)
    identity = (release.identity_option, "id") if release.identity_option else ()
    command = [release.argv[0], "-c", engine.option_check, *release.option_argv, *identity]
    where = f"service {release.service}, engine {release.engine} in {release.environment.path}"
    try:
        done = subprocess.run(
            command,
            env=dict(release.variables),
            cwd=release.working_directory if os.path.isdir(release.working_directory) else "/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=OPTION_CHECK_TIMEOUT,
            **_as_user(release.user),
        )
    except PermissionError:
        raise DeployError(
            f"{where}: user {release.user} may not run {release.argv[0]}",
            "make the environment readable for that user (chmod o+rx on the way to it), or set inference_user",
        ) from None
    except subprocess.TimeoutExpired:
        raise DeployError(f"{where}: reading its options took over {OPTION_CHECK_TIMEOUT} s", "try again") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.strip().splitlines() if line.strip()] or ["no message"]
        if "Error" in lines[-1].partition(":")[0]:  # a traceback: it did not come as far as the options
            raise DeployError(
                f"{where} cannot be loaded: {lines[-1]}",
                f"use an environment in which {engine.package} works for {release.user or 'the user who deploys'}",
                "\n".join(lines[-6:-1]),
            )
        raise DeployError(
            f"{where} refuses its options: {lines[-1]}",
            "correct options: of the service; the names are those of the installed version",
        )


def _target(release_id: str) -> str:
    """What a service's link to a release holds."""
    return os.path.join("releases", release_id)


def _folder(release: Release) -> ServiceFolder:
    return Store(release.root).service(release.service)


def _as_user(user: str) -> dict[str, Any]:
    """Popen's arguments to become `user`; nothing when that is who acts already."""
    if not user or _passwd(user).pw_uid == os.geteuid():
        return {}
    entry = _passwd(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}


def _passwd(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise DeployError(f"there is no user {user} on this host", "let the release role create it") from None


def _make_folders(release: Release, folder: ServiceFolder) -> None:
    """The service's folders: the deployment's own are root's, state and caches belong to the service's user."""
    os.makedirs(folder.releases, mode=0o755, exist_ok=True)
    for path, mode in ((folder.state, 0o750), (release.cache, 0o755)):
        os.makedirs(path, mode=0o755, exist_ok=True)
        os.chmod(path, mode)
        if release.user:
            owner = _passwd(release.user)
            os.chown(path, owner.pw_uid, owner.pw_gid)


def _write_release(staged: StagedRelease, settings: Settings, folder: ServiceFolder) -> None:
    """Write the release's folder beside its place and rename it there; one that is there is mended file by file."""
    target = folder.release(staged.id)
    there = os.path.isdir(target)
    place = target if there else os.path.join(folder.releases, f".{staged.id}.part")
    if not there:
        shutil.rmtree(place, ignore_errors=True)
        os.mkdir(place, 0o755)
    for name, text in {**files_of(staged), **settings.files}.items():
        _write(place, name, text)
    if not there:
        os.rename(place, target)
        sync_directory(folder.releases)


def _write(folder: str, name: str, text: str) -> None:
    """Write one file of a release, readable for everybody."""
    path = os.path.join(folder, name)
    if client_kit.is_kit_path(path):
        if not os.path.isdir(os.path.dirname(path)):
            os.mkdir(os.path.dirname(path), 0o755)
            sync_directory(folder)
        write_file(path, text, client_kit.mode_of(name))
    else:
        write_file(path, text, 0o755 if name == LAUNCH_FILE else 0o644)
