"""Names of files as a source gives them, and where they may lead."""

from __future__ import annotations

import os
import unicodedata

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import Problem


def safe(path: str) -> str:
    """A path below the folder, as it is.

    Raises:
        Problem: it leaves the folder, or is no name of a file.
    """
    parts = path.split("/")
    # As manifest.check_path has it; and no backslash, which the libraries take for a slash.
    wild = any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in path) or "\\" in path
    if wild or any(part in ("", ".", "..") for part in parts):
        raise Problem(f"the source has a file of the name {path!r}, which is not allowed", "rename it at the source")
    return path


def inside(folder: str, path: str) -> str:
    """The place of a file; no link on the way leads out of the folder.

    Raises:
        Problem: one does.
    """
    base = os.path.realpath(folder)
    target = os.path.join(base, path)
    if os.path.realpath(os.path.dirname(target)) != os.path.dirname(target) or os.path.islink(target):
        raise Problem(f"{target} is, or lies behind, a link", "remove the link")
    return target
