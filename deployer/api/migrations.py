"""A migration of a fleet: begun, gone on with, gone back on, looked at; in a folder that it is kept in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from ansible_collections.deployer.sglang.plugins.module_utils.rollout import settings_problems
from deployer.api.comparisons import read_prompts
from deployer.api.migration_verbs import PROMPTS, Nobody, OnFleet, Seat
from deployer.migration import kept as folders
from deployer.migration.kept import Kept
from deployer.migration.state import BACK, DONE, REPLACED, Given, Settings, State, fleet_id
from deployer.migration.steps import NAMES, STAGE, step_named
from deployer.migration.walk import go_back, walk
from deployer.report.migration import REPORT
from deployer.runs.provenance import inventory_state
from deployer.runs.runner import initiator

if TYPE_CHECKING:
    from deployer.api.hosts import Hosts


@dataclass(frozen=True)
class Migration:
    """A migration, as it is now.

    Args:
        state: all that is known of it.
        folder: that it is kept in; None of one that was only tried (check).
    """

    state: State
    folder: Path | None

    @property
    def exit_code(self) -> int:
        """0 done, or stopped where that was asked for; 1 failed, and every service serves; 2 refused; 3 not known what
        serves; 4 stopped on request."""
        return self.state.exit_code

    @property
    def done(self) -> bool:
        """Every step is over."""
        return self.state.ended == DONE

    @property
    def report(self) -> Path | None:
        """Its HTML file; None where there is none yet."""
        path = self.folder / REPORT if self.folder is not None else None
        return path if path is not None and path.exists() else None


def migrate(deployer: Hosts, until: str, restart: bool, check: bool, seat: Seat | None, given: Given) -> Migration:
    """Begin a migration of the deployer's hosts, or go on with the one that was begun; see `Deployer.migrate`."""
    seat = seat or Nobody()
    if until:
        step_named(until)
    sources, fleet = _fleet(deployer)
    wanted = _wanted(given)
    if check:
        if until and NAMES.index(until) > NAMES.index(STAGE):
            raise DeployError(f"--check ends after {STAGE}, and {until} is behind it", "leave --until out")
        settings = Settings(**wanted)
        _refuse_mistakes(settings)
        tried = State("", 0.0, given=_given(deployer), sources=sources, limit=deployer.limit, settings=settings)
        verbs = OnFleet(deployer, None, seat, check=True)
        return Migration(walk(tried, verbs, seat, lambda state: None, until=until or STAGE), None)
    with folders.locked(fleet, initiator()):
        kept = folders.newest_of(fleet)
        if kept is not None and (restart or kept.state.ended == BACK):
            _refuse_to_forget(kept.state)
            if not kept.state.ended:
                kept.save(replace(kept.state, ended=REPLACED))
            kept = None
        if kept is None:
            kept = _begun(deployer, sources, wanted, given)
        elif kept.state.ended == DONE:
            seat.tell("message", level="info", text=f"{kept.state.id} is done; --restart begins a new migration")
            return Migration(replace(kept.state, exit_code=0), kept.folder)
        else:
            settings = kept.state.settings.with_given(wanted, kept.state.measured)
            _refuse_mistakes(settings)
            kept = replace(kept, state=replace(kept.state, settings=settings, given=_given(deployer)))
            _keep_prompts(kept, given)
            kept.save(kept.state)
        seat.tell("migration.started", migration=kept.state.id, folder=str(kept.folder))
        verbs = OnFleet(deployer, kept.folder, seat)
        return Migration(walk(kept.state, verbs, seat, kept.save, until=until), kept.folder)


def back(deployer: Hosts, seat: Seat | None, given: Given) -> Migration:
    """Bring every host that the newest migration has switched back to what served before; see `Deployer.migrate_back`.

    Raises:
        DeployError: there is none that anything is to be gone back on.
    """
    seat = seat or Nobody()
    _, fleet = _fleet(deployer)
    with folders.locked(fleet, initiator()):
        kept = folders.newest_of(fleet)
        if kept is not None and kept.state.ended == BACK:
            seat.tell("message", level="info", text=f"{kept.state.id} went back already: {kept.state.meaning}")
            return Migration(replace(kept.state, exit_code=0), kept.folder)
        every = [one for one in folders.kept_migrations() if _of(one.state, fleet) and one.state.ended != BACK]
        if kept is not None and not kept.state.switched:
            kept = next((one for one in every if one.state.switched), kept)
        if kept is None:
            raise DeployError(
                "there is no migration of these hosts to go back on, in this folder",
                "give the same -i and -l, from the folder that it was begun in; or: python -m deployer rollback",
            )
        seat.tell("migration.started", migration=kept.state.id, folder=str(kept.folder))
        settings = kept.state.settings.with_given(_wanted(given), measured=True)
        _refuse_mistakes(settings)
        verbs = OnFleet(deployer, kept.folder, seat)
        return Migration(go_back(replace(kept.state, settings=settings), verbs, seat, kept.save), kept.folder)


def newest(deployer: Hosts) -> Migration | None:
    """The newest migration of the deployer's hosts; where it names no inventory, of any; None where there is none.

    Raises:
        DeployError: its state cannot be read.
    """
    _, fleet = _fleet(deployer)
    kept = folders.newest_of(fleet) or (folders.newest_of("") if not _given(deployer) else None)
    return Migration(kept.state, kept.folder) if kept is not None else None


def _fleet(deployer: Hosts) -> tuple[tuple[str, ...], str]:
    sources = tuple(inventory_state(deployer.paths)["sources"])
    return sources, fleet_id(sources, deployer.limit)


def _of(state: State, fleet: str) -> bool:
    return fleet_id(state.sources, state.limit) == fleet


def _given(deployer: Hosts) -> tuple[str, ...]:
    return tuple(deployer.paths)


def _refuse_to_forget(state: State) -> None:
    """A new migration knows nothing of what served before an older one.

    Raises:
        DeployError: the older one is half way.
    """
    if not state.ended and state.switched:
        raise DeployError(
            f"{', '.join(state.switched[:6])} {'was' if len(state.switched) == 1 else 'were'} switched by {state.id}, "
            "which knows what served before",
            "go on with it, or bring them back first: migrate --back",
        )


def _begun(deployer: Hosts, sources: tuple[str, ...], wanted: Mapping[str, Any], given: Given) -> Kept:
    settings = Settings(**wanted)
    _refuse_mistakes(settings)
    state = State(
        "",
        time.time(),
        initiator=initiator(),
        given=_given(deployer),
        sources=sources,
        limit=deployer.limit,
        settings=settings,
    )
    kept = folders.begun(state)
    _keep_prompts(kept, given)
    return kept


def _keep_prompts(kept: Kept, given: Given) -> None:
    """What is asked stays the same, whatever becomes of the file.

    Raises:
        DeployError: it cannot be written.
    """
    if "prompts" not in given:
        return
    folder = kept.folder / PROMPTS
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        text = Path(given["prompts"]).expanduser().read_text(encoding="utf-8")
        write_file(str((folder / kept.state.settings.prompts).absolute()), text, mode=0o600)
    except OSError as error:
        raise DeployError(f"{folder} cannot be written: {error}", "make room there") from error


def _wanted(given: Given) -> dict[str, Any]:
    """What is asked for, as the settings keep it.

    Raises:
        DeployError: prompts that cannot be read, a text in place of a list.
    """
    wanted: dict[str, Any] = dict(given)
    for name in ("services", "rates", "batches"):
        if name in wanted:
            if isinstance(wanted[name], str):
                raise DeployError(f"{name} is the text {wanted[name]!r}", "give a list")
            wanted[name] = tuple(wanted[name])
    if "prompts" in wanted:
        path = Path(wanted["prompts"]).expanduser()
        wanted["prompts_sha256"] = read_prompts(path).sha256
        wanted["prompts"] = path.name
    return wanted


def _refuse_mistakes(settings: Settings) -> None:
    """Before anything is begun.

    Raises:
        DeployError: settings that cannot work.
    """
    variables: dict[str, Any] = {"rollout_max_fail": settings.max_fail} if settings.max_fail else {}
    if settings.batches:
        variables["rollout_batches"] = list(settings.batches)
    mistakes = settings_problems(variables)
    if mistakes:
        problem, _, fix = mistakes[0].partition(". Fix: ")
        raise DeployError(problem, fix)
    if settings.no_worse is not None and not settings.load:
        raise DeployError("--no-worse is about a load, and none is made", "give --load as well")
    if settings.requests < 1 or not settings.rates or any(not rate > 0 for rate in settings.rates):
        raise DeployError("a load needs rates above 0, and at least one request", "for example --rates 1,2,4")
