"""The host's logrotate, for the log of an adopted release that systemd keeps.

It writes to the file that it wrote to when it was started by hand, and nobody else rotates that. Of every other log the
journal is bounded, or the process supervisor rotates it.
"""

from __future__ import annotations

import contextlib
import glob
import grp
import os
import pwd
import re
import shlex
from collections.abc import Callable, Iterable, Iterator

from ansible_collections.deployer.sglang.plugins.module_utils.files import read_text, sync_directory, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.log_rotation import (
    KEPT,
    LARGEST,
    roots_alone,
)

FOLDER = "/etc/logrotate.d"
OTHERS = "/etc/logrotate.conf"
# What logrotate would take for a pattern, a quote or the end of the line, in a file that it reads as root.
UNQUOTABLE = re.compile(r'["\\*?\[\]{}~\x00-\x1f\x7f]')
# A name that means itself there, unquoted.
NAME = re.compile(r"[\w.][\w.@+-]*\$?", re.ASCII)
# What is in logrotate's configuration beside the paths of logs: comments, scripts, and what it is to do with a log.
COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
SCRIPT = re.compile(
    r"^\s*(?:pre|post|first|last)(?:rotate|action|remove)\b.*?^\s*endscript\b", re.MULTILINE | re.DOTALL
)
BLOCK = re.compile(r"\{[^}]*\}")
# What logrotate leaves unread in its folder, as packages and editors leave it there.
UNREAD = (
    *(".bak", ".cfsaved", ".disabled", ".new", ".old", ".orig", ".rpmnew", ".rpmorig", ".rpmsave", ".swp", ",v", "~"),
    *(f".dpkg-{kind}" for kind in ("bak", "del", "dist", "new", "old", "tmp")),
    *(f".ucf-{kind}" for kind in ("dist", "new", "old")),
)


def ensure(service: str, staged: StagedRelease, folder: str = FOLDER, others: str = OTHERS) -> None:
    """Have the log of a committed release rotated where it is a file; otherwise leave no configuration behind.

    A log that the host's own configuration names is left to it: logrotate skips a file that names one once more.
    Nothing is raised: a release that serves does not fail of this.

    Args:
        service: its name.
        staged: what is committed.
        folder: where logrotate reads its configuration from.
        others: its main file.
    """
    with contextlib.suppress(OSError, KeyError):
        path = _path(service, folder)
        text = text_of(service, staged, lambda log: not rotates(log, folder, others, besides=path))
        if not text:
            remove(service, folder)
        elif os.path.isdir(folder) and read_text(path) != text:
            write_file(path, text)


def remove(service: str, folder: str = FOLDER) -> None:
    """Forget the configuration of a service."""
    with contextlib.suppress(OSError):
        os.unlink(_path(service, folder))
        sync_directory(folder)


def text_of(service: str, staged: StagedRelease, unrotated: Callable[[str], bool] = lambda _: True) -> str:
    """The configuration; '' where there is no file to rotate, or none that can be rotated safely.

    Args:
        service: its name.
        staged: what is committed.
        unrotated: whether nothing else rotates a log.
    Raises:
        KeyError: its user or group is gone.
    """
    adopted = staged.release.adopted
    if adopted.get("by") == "unit":
        return ""
    paths = [path for path in log_files(adopted.get("log", {}).values()) if unrotated(path)]
    if not paths:
        return ""
    user, group = pwd.getpwuid(int(adopted["uid"])).pw_name, grp.getgrgid(int(adopted["gid"])).gr_name
    if int(adopted["uid"]) == 0:
        paths = [path for path in paths if roots_alone(path)]
    if not paths or not (NAME.fullmatch(user) and NAME.fullmatch(group)):
        return ""
    lines = [
        f"# Written by the deployment: service {service} is what was started by hand, and writes where it did.",
        " ".join(f'"{path}"' for path in paths) + " {",
        f"    su {user} {group}",
        f"    size {LARGEST // 2**20}M",
        f"    rotate {KEPT}",
        *("    copytruncate", "    missingok", "    notifempty", "}"),
    ]
    return "\n".join(lines) + "\n"


def log_files(paths: Iterable[str]) -> list[str]:
    """Those of the outputs of a process that are files which can be rotated, each once."""
    kept = (path for path in paths if os.path.isabs(path) and not path.startswith("/dev/"))
    return sorted({path for path in kept if not UNQUOTABLE.search(path)})


def rotates(log: str, folder: str = FOLDER, others: str = OTHERS, besides: str = "") -> bool:
    """Whether logrotate's configuration names a log, itself or by a pattern.

    Args:
        log: its path.
        folder: where logrotate reads its configuration from.
        others: its main file.
        besides: a file that does not count.
    """
    names = {log, os.path.realpath(log)}
    for path in (others, *sorted(glob.glob(os.path.join(folder, "*")))):
        if path == besides or path.endswith(UNREAD):
            continue
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if any(names & {word, os.path.realpath(word), *glob.glob(word)} for word in _paths(read_text(path) or "")):
                return True
    return False


def _paths(text: str) -> Iterator[str]:
    """The paths and patterns of logs in a configuration."""
    for pattern in (COMMENT, SCRIPT, BLOCK):
        text = pattern.sub("\n", text)
    for line in text.replace("{", "\n").splitlines():
        try:
            words = shlex.split(line)
        except ValueError:  # a quote that does not end
            words = line.split()
        yield from (word for word in words if word.startswith("/"))


def _path(service: str, folder: str) -> str:
    return os.path.join(folder, f"inference-{service}")
