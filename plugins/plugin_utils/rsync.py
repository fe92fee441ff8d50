"""Whole files by rsync over SSH, for hosts that no port can be opened on."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


def rsync(connection: Any, paths: Sequence[str], source: str, folder: str, rate: int) -> None:
    """Bring files to a host, resuming those that a broken run left.

    Args:
        connection: Ansible's to the host, by SSH.
        paths: of the files, below `source` and below `folder` alike.
        source: folder on the controller; symbolic links in it are followed.
        folder: on the host, the login user's.
        rate: the most bytes a second; 0 for no limit.
    Raises:
        DeployError: rsync is missing here or there, or fails.
    """
    if shutil.which("rsync") is None:
        raise DeployError("rsync is not installed on the controller", "install it, or set model_transport: relay")
    done = subprocess.run(
        rsync_command(connection, source, folder, rate),
        input="\0".join(f"./{path}" for path in paths),  # a name may begin with what rsync takes for a comment
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        missing = done.returncode == 127 or "command not found" in done.stderr
        fix = "install rsync on the host" if missing else "see the disk and the network of the host"
        raise DeployError(
            f"rsync to {connection.get_option('host')} ended with {done.returncode}: {said[0] if said else ''}",
            f"{fix}; run again: it resumes",
            "\n".join(said[1:]),
        )


def rsync_command(connection: Any, source: str, folder: str, rate: int) -> list[str]:
    """The command; the files' names come by its standard input, NUL between them."""
    remote = connection.get_option("host")
    shown = f"[{remote}]" if ":" in remote else remote
    limit = [f"--bwlimit={max(1, rate // 1024)}"] if rate else []
    return [
        "rsync",
        "--append",  # no deltas: what is there is the beginning of the file, and everything is hashed afterwards
        "--copy-links",
        "--from0",
        "--files-from=-",
        "--timeout=120",
        *limit,
        f"--rsh={shlex.join(ssh_words(connection))}",
        f"{source}/",
        f"{shown}:{folder}/",
    ]


def ssh_words(connection: Any) -> list[str]:
    """SSH as Ansible calls it for the host, up to its address; nobody can be asked for a password here."""
    words = [connection.get_option("ssh_executable")]
    for name in ("ssh_args", "ssh_common_args", "ssh_extra_args"):
        words += shlex.split(connection.get_option(name) or "")
    checked = "yes" if connection.get_option("host_key_checking") else "no"
    words += ["-o", f"StrictHostKeyChecking={checked}", "-o", "BatchMode=yes"]
    for option, flag in (("port", "-p"), ("private_key_file", "-i"), ("remote_user", "-l")):
        value = connection.get_option(option)
        words += [flag, str(value)] if value else []
    return words
