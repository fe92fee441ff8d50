"""What was written for monitors, for people: files, targets, and who has none and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deployer.monitoring.files import EDITED, WRITTEN
from deployer.views.console import shown
from deployer.wording import counted

if TYPE_CHECKING:
    from deployer.api import Monitoring
    from deployer.monitoring.files import WrittenFile


def monitoring_lines(made: Monitoring, check: bool = False) -> Iterator[str]:
    """Lines of markup.

    Args:
        made: what was written.
        check: nothing was; say what would be.
    """
    for file in made.files:
        yield _file(file, check)
    yield f"{counted(len(made.targets), 'target')}"
    for target in made.targets:
        known = " [dim](as it was written before: nothing was told of it now)[/]" if target in made.kept else ""
        yield f"  {shown(target.host)} {shown(target.service)}: {shown(target.address)}{known}"
    for one in made.without:
        state = "no metrics" if one.told else "not told"
        yield f"[yellow]{state}[/] {shown(one.host)} {shown(one.service)}: {shown(one.problem)}"
    for host in made.hosts.values():
        if host.failure:
            yield f"[red]{shown(host.host)}: {shown(host.explained, lines=True)}[/]"


def _file(file: WrittenFile, check: bool) -> str:
    path = shown(file.path)
    if file.state == EDITED:
        new = f"; its new content is {'to come' if check else 'now'} in {shown(file.beside)}" if file.beside else ""
        return f"[yellow]edited[/]     {path}: somebody changed it, and it stays so{new}"
    if file.state == WRITTEN:
        return f"[green]{'would write' if check else 'written'}[/]{'' if check else '    '} {path}"
    return f"[dim]unchanged[/]  {path}"
