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
from collections.abc import Iterable

from ansible_collections.deployer.sglang.plugins.module_utils.files import read_text, sync_directory, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.log_rotation import KEPT, LARGEST

FOLDER = "/etc/logrotate.d"
OTHERS = "/etc/logrotate.conf"
# What logrotate would take for a pattern, a quote or the end of the line, in a file that it reads as root.
UNQUOTABLE = re.compile(r'["\\*?\[\]{}~\x00-\x1f\x7f]')

WORD = re.compile(r'"([^"\n]*)"|([^\s"{}]+)')


def ensure(service: str, staged: StagedRelease, folder: str = FOLDER) -> None:
    """Have the log of a committed release rotated where it is a file; otherwise leave no configuration behind.

    Nothing is raised: a release that serves does not fail of this.

    Args:
        service: its name.
        staged: what is committed.
        folder: where logrotate reads its configuration from.
    """
    with contextlib.suppress(OSError, KeyError):
        text = text_of(service, staged)
        path = _path(service, folder)
        if not text:
            remove(service, folder)
        elif os.path.isdir(folder) and read_text(path) != text:
            write_file(path, text)


def remove(service: str, folder: str = FOLDER) -> None:
    """Forget the configuration of a service."""
    with contextlib.suppress(OSError):
        os.unlink(_path(service, folder))
        sync_directory(folder)


def text_of(service: str, staged: StagedRelease) -> str:
    """The configuration; '' where there is no file to rotate.

    Raises:
        KeyError: its user or group is gone.
    """
    adopted = staged.release.adopted
    paths = log_files(adopted.get("log", {}).values())
    if not paths or adopted.get("by") == "unit":
        return ""
    user, group = pwd.getpwuid(int(adopted["uid"])).pw_name, grp.getgrgid(int(adopted["gid"])).gr_name
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


def rotates(log: str, folder: str = FOLDER, others: str = OTHERS) -> bool:
    """Whether logrotate's configuration names a log, itself or by a pattern."""
    for path in (others, *sorted(glob.glob(os.path.join(folder, "*")))):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            words = [quoted or plain for quoted, plain in WORD.findall(read_text(path) or "")]
            if any(word.startswith("/") and (word == log or log in glob.glob(word)) for word in words):
                return True
    return False


def _path(service: str, folder: str) -> str:
    return os.path.join(folder, f"inference-{service}")
