"""What a host tells monitors of its cut-overs: a file for the textfile collector of Prometheus' node_exporter.

It is counted from the services' journals each time, so that a reboot or a lost file changes no number.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import journal
from ansible_collections.deployer.sglang.plugins.module_utils.cutover import collector_file
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.outcome import (
    COMMITTED,
    NOT_RESTORED,
    REFUSED,
    RESTORED,
    UNCHANGED,
)
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import committed
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.module_utils.program_text import source_of
from ansible_collections.deployer.sglang.plugins.module_utils.release import load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store

FILE = "inference.prom"
OUTCOMES = (COMMITTED, NOT_RESTORED, REFUSED, RESTORED, UNCHANGED)
PATIENCE = 5.0  # seconds for all of it: another service's cut-over that writes the same file, and the folder
LEAST = 1.0  # seconds of them for the folder, however long the other one took


@dataclass(frozen=True)
class Cutovers:
    """What happened to one service.

    Args:
        release: that is committed; '' for none.
        engine: of it.
        ended: each cut-over that came to an end: its outcome, and when, in seconds since 1970.
    """

    release: str = ""
    engine: str = ""
    ended: Sequence[tuple[str, int]] = ()


def tell_monitors(root: str, directory: str) -> str:
    """Write the file, where it is not right already: in one step, readable for everybody.

    Args:
        root: the deployment's root folder.
        directory: of the textfile collector; '' for none.
    Returns:
        What went wrong; '' for nothing. Nothing is raised: a cut-over does not fail of this.
    """
    if not directory:
        return ""
    path = os.path.join(directory, FILE)
    deadline = time.monotonic() + PATIENCE
    try:
        # Whoever writes last has read last.
        with exclusive_lock(Store(root).metrics_lock, PATIENCE - LEAST):
            text = text_of(_services(root))
            problem = _written(path, text, max(LEAST, deadline - time.monotonic()))
    except Exception as error:
        problem = str(error)
    return f"{path} was not written, and monitors do not know of this: {problem}" if problem else ""


def _written(path: str, text: str, patience: float) -> str:
    """Write the file in a process of its own, which is given up when the folder does not answer, as a dead NFS.

    It holds nothing of ours, the lock included, and nobody has to wait for it to end.

    Returns:
        What went wrong; '' for nothing.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", source_of(collector_file), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,
        close_fds=True,
    )
    try:
        said, _ = process.communicate(text.encode("utf-8", "replace"), timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"the folder did not answer within {patience:.0f} seconds"
    return said.decode(errors="replace").strip() or (f"exit status {process.returncode}" if process.returncode else "")


def ended(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """The cut-overs of a journal that came to an end: outcome and time.

    One that was killed and brought to an end afterwards is what that came to: going back is a cut-over, too, in the
    journal, and of its own it was done.
    """
    found: list[tuple[str, int]] = []
    before = None
    for entry in entries:
        event, outcome = entry.get("event"), str(entry.get("outcome"))
        if event in ("ended", "recovered") and outcome in OUTCOMES:
            if event == "recovered" and before == "ended":
                found.pop()
            found.append((outcome, _seconds(entry.get("time"))))
        before = event
    return found


def text_of(services: Mapping[str, Cutovers]) -> str:
    """The file, in Prometheus' text format."""
    return "".join(f"{line}\n" for line in _lines(services))


def _lines(services: Mapping[str, Cutovers]) -> Iterator[str]:
    yield "# HELP inference_cutovers_total Cut-overs that came to an end, by outcome."
    yield "# TYPE inference_cutovers_total counter"
    for name, one in services.items():
        for outcome in OUTCOMES:
            count = sum(outcome == told for told, _ in one.ended)
            yield f"inference_cutovers_total{_labels(service=name, outcome=outcome)} {count}"
    yield "# HELP inference_last_cutover_timestamp_seconds When the last cut-over with this outcome ended."
    yield "# TYPE inference_last_cutover_timestamp_seconds gauge"
    for name, one in services.items():
        for outcome, last in sorted({told: max(t for o, t in one.ended if o == told) for told, _ in one.ended}.items()):
            yield f"inference_last_cutover_timestamp_seconds{_labels(service=name, outcome=outcome)} {last}"
    yield "# HELP inference_release_info The release that is committed."
    yield "# TYPE inference_release_info gauge"
    for name, one in services.items():
        if one.release:
            yield f"inference_release_info{_labels(service=name, release=one.release, engine=one.engine)} 1"


def _labels(**labels: str) -> str:
    escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
    return "{" + ",".join(f'{name}="{value.translate(escapes)}"' for name, value in labels.items()) + "}"


def _services(root: str) -> dict[str, Cutovers]:
    try:
        names = sorted(os.listdir(os.path.join(root, "services")))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    folders = {name: Store(root).service(name) for name in names}
    return {name: _cutovers(folder) for name, folder in folders.items() if os.path.isdir(folder.path)}


def _cutovers(folder: ServiceFolder) -> Cutovers:
    release, engine = committed(folder, None) or "", ""
    with contextlib.suppress(DeployError):
        engine = load_release(folder.release(release)).release.engine if release else ""
    return Cutovers(release, engine, ended(journal.entries(folder)))


def _seconds(moment: Any) -> int:
    try:
        return calendar.timegm(time.strptime(str(moment), "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return 0
