"""How far a release has loaded, for whoever watches a cut-over: a file that is replaced as its log goes on."""

from __future__ import annotations

import contextlib
import os
import re

from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder

LINE = 120  # characters of a line that counts nothing
_COUNTED = re.compile(r"\d+%.*?\s(?P<done>\d+)/(?P<total>\d+)\b")


def note(folder: ServiceFolder, line: str) -> None:
    """Say how far it is.

    Args:
        folder: of the service.
        line: of the engine's log, without secrets.
    """
    done, total, unit = step_of(line)
    text = f"{done} of {total} {unit}" if total else line[:LINE]
    with contextlib.suppress(OSError):  # a full disk is no reason to stop
        write_file(folder.loading, pretty_json({"done": done, "total": total, "unit": unit, "text": text}))


def forget(folder: ServiceFolder) -> None:
    """Nothing loads any more, or something else begins to."""
    with contextlib.suppress(OSError):
        os.unlink(folder.loading)


def step_of(line: str) -> tuple[int, int, str]:
    """How many of how many, and of what, a line of progress says are done; 0 of 0 where it counts nothing.

    The bars of tqdm, as in `Loading safetensors checkpoint shards: 25% Completed | 1/4 [00:01<00:03]` and
    `Capturing batches (bs=16): 50%|█████     | 18/36 [00:03<00:03]`.
    """
    counted = _COUNTED.search(line)
    if counted is None:
        return 0, 0, ""
    kind = line[: counted.start()].lower()
    unit = "shards" if "shard" in kind else "graphs" if "captur" in kind else "steps"
    return int(counted["done"]), int(counted["total"]), unit
