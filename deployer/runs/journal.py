"""The controller's journal: one folder a run, in the folder that the run was started from; the newest are kept."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, write_file
from deployer.runs.events import Event, parse

FOLDER = Path(".deployer") / "runs"
EVENTS, PLAN, RUN = "events.jsonl", "plan.json", "run.json"
MOST_RUNS = 100
ID = re.compile(r"\d{8}T\d{6}Z-[a-z]+(-\d+)?")
PRIVATE = 0o600


class Journal:
    """The folder of one run, readable by the user alone; told events, it writes them down.

    Args:
        verb: rollout, rollback or stage.
        base: folder that runs go below.
    Raises:
        DeployError: it cannot be made.
    """

    name = "the journal"

    def __init__(self, verb: str, base: Path | None = None) -> None:
        base = FOLDER if base is None else base
        try:
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder = new_folder(base, new_id(verb))
            path = self.folder / EVENTS
            path.touch(mode=PRIVATE)
            self._stream = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise DeployError(
                f"the journal of this run cannot be written in {base.absolute()}: {error.strerror or error}",
                "make room, or start it from a folder of your own",
            ) from None
        self.run = self.folder.name

    def __call__(self, event: Event) -> None:
        """Append one event.

        Raises:
            OSError: it cannot be written.
        """
        self._stream.write(event.as_json() + "\n")
        if event.kind == "plan":
            write_file(str(self.folder / PLAN), pretty_json(event.data["hosts"]), PRIVATE)

    def close(self, record: Mapping[str, Any]) -> None:
        """Write down what the run came to; earlier runs that are too many go.

        Args:
            record: run.json.
        Raises:
            OSError: it cannot be written.
        """
        self._stream.close()
        write_file(str(self.folder / RUN), pretty_json(record), PRIVATE)
        rotate(self.folder.parent, kept=self.folder)


@dataclass(frozen=True)
class Kept:
    """A run of which there is a journal.

    Args:
        run: its id.
        folder: its folder.
        record: run.json; of a run that was not seen to end, what it was started with.
    """

    run: str
    folder: Path
    record: Mapping[str, Any]

    def events(self) -> Iterator[Event]:
        """All that happened, in the order in which it was written."""
        with (self.folder / EVENTS).open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                event = parse(line)
                if event is not None:
                    yield event


def new_id(verb: str) -> str:
    """What a run that begins now is called, such as 20261129T023417Z-rollout."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{verb}"


def kept_runs(base: Path | None = None) -> list[Kept]:
    """The runs of which there are journals, the newest first."""
    found = []
    for folder in reversed(_folders(FOLDER if base is None else base)):
        record = _record(folder)
        if record is not None:
            found.append(Kept(folder.name, folder, record))
    return found


def find_run(wanted: str, base: Path | None = None) -> Kept:
    """A run by its id or the beginning of it; `last` is the newest.

    Raises:
        DeployError: there is none, or several begin so.
    """
    runs = kept_runs(base)
    found = runs[:1] if wanted == "last" else [one for one in runs if one.run.startswith(wanted)]
    exact = [one for one in found if one.run == wanted]
    if len(exact or found) != 1:
        where = (base or FOLDER).absolute()
        none = f"there is no run {wanted!r} in {where}" if runs else f"there is no run {wanted!r}: {where} has none yet"
        some = f"several runs begin with {wanted!r}" if found else none
        raise DeployError(some, "take an id of: python -m deployer history --runs")
    return (exact or found)[0]


def rotate(base: Path, most: int = MOST_RUNS, kept: Path | None = None) -> None:
    """Remove the oldest runs, so that so many are left; never the one that is kept, whatever the clock says."""
    for folder in _folders(base)[:-most]:
        if folder != kept:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(base: Path) -> list[Path]:
    """Folders of runs, the oldest first; what is called otherwise is not ours."""
    try:
        return sorted((one for one in base.iterdir() if ID.fullmatch(one.name) and one.is_dir()), key=_age)
    except OSError:
        return []


def _age(folder: Path) -> tuple[str, int]:
    """Orders runs by their beginning; of those of one second, by their number."""
    stamp, _, rest = folder.name.partition("-")
    number = rest.partition("-")[2]
    return stamp, int(number or 1)


def _record(folder: Path) -> Mapping[str, Any] | None:
    try:
        value = json.loads((folder / RUN).read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else None
    except ValueError:
        return None
    except OSError:
        pass
    try:
        with (folder / EVENTS).open(encoding="utf-8", errors="replace") as stream:
            first = parse(stream.readline())
    except OSError:
        return None
    return {**first.data, "started": first.time} if first is not None else None


def new_folder(base: Path, name: str) -> Path:
    """A folder of that name, or with a number behind it where another run of the same second has it.

    Raises:
        OSError: it cannot be made.
    """
    for number in range(1, 1000):
        folder = base / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(mode=0o700)
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{base / name}: too many runs in one second")
