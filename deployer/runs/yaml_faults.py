"""Where a file of variables is no YAML: Ansible says what is wrong with it, and not always which file it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

FAILED = re.compile(r"YAML parsing failed: [^\n]+")
ORIGIN = "Origin: "
FOLDERS = ("group_vars", "host_vars")
ENDINGS = ("", ".yml", ".yaml", ".json")


def with_origin(output: str, inventory: Sequence[str]) -> str:
    """What ansible-playbook printed, with the place that it means where it does not say it.

    Args:
        output: all of it.
        inventory: paths as it was given them.
    """
    found = FAILED.search(output)
    if found is None or ORIGIN in output:
        return output
    place = next(_faults(inventory), "")
    return f"{output[: found.end()]}\n{ORIGIN}{place}{output[found.end() :]}" if place else output


def _faults(inventory: Sequence[str]) -> Iterator[str]:
    """FILE:LINE:COLUMN of every mistake beside these inventories."""
    for source in inventory:
        path = Path(source).expanduser()
        base = path if path.is_dir() else path.parent
        for file in sorted(one for folder in FOLDERS for one in (base / folder).rglob("*") if one.suffix in ENDINGS):
            try:
                yaml.compose(file.read_text(encoding="utf-8", errors="replace"), Loader=yaml.SafeLoader)
            except yaml.MarkedYAMLError as error:
                mark = error.problem_mark or error.context_mark
                yield f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
            except (OSError, yaml.YAMLError):
                continue
