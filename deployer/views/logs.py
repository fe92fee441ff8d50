"""What an operator sees of services' logs: every line behind the name of its host."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Console

from deployer.runs.service_logs import LogLine
from deployer.views.console import shown
from deployer.wording import counted

STYLES = ("cyan", "magenta", "green", "blue", "yellow", "bright_cyan", "bright_magenta", "bright_green")
LEVEL_STYLE = {"error": "red", "warning": "yellow"}


class LogPrinter:
    """Prints lines and what is to be said of a log.

    Args:
        console: where lines go.
        aside: where everything else goes.
        as_json: a JSON object a line.
        several: name the service, too, as a host may have several.
    """

    def __init__(self, console: Console, aside: Console, as_json: bool, several: bool) -> None:
        self._console = console
        self._aside = aside
        self._as_json = as_json
        self._several = several
        self._styles: dict[str, str] = {}
        self._width = 0

    def known(self, hosts: Iterable[str]) -> None:
        """Names that will be met: their lines begin in one column."""
        for host in hosts:
            self._styles.setdefault(host, STYLES[len(self._styles) % len(STYLES)])
            self._width = max(self._width, len(host))

    def lines(self, lines: Iterable[LogLine]) -> None:
        """Print lines."""
        for line in lines:
            if self._as_json:
                self._console.file.write(json.dumps(vars(line)) + "\n")
                continue
            self.known([line.host])
            name = f"{shown(line.host):{self._width}}" + (f" {shown(line.service)}" if self._several else "")
            style = LEVEL_STYLE.get(line.level)
            text = shown(line.text.expandtabs())
            body = f"[{style}]{text}[/]" if style and text else text
            prefix = f"[{self._styles[line.host]}]{name}[/] [dim]|[/] "
            self._console.print(prefix + body, highlight=False, soft_wrap=True)
        self._console.file.flush()

    def remark(self, host: str, service: str, text: str) -> None:
        """Say something of a log, or of a host where there is no service."""
        if self._as_json:
            self._console.file.write(json.dumps({"host": host, "service": service, "problem": text}) + "\n")
            self._console.file.flush()
            return
        name = f"{shown(host)} {shown(service)}".strip()
        self._aside.print(f"[bold]{name}[/] [yellow]{shown(text)}[/]", highlight=False, soft_wrap=True)

    def left_out(self, host: str, service: str, count: int) -> None:
        """Say that lines are missing."""
        if count:
            why = "as one answer holds 1 MiB: --since, --level or --grep narrow it"
            self.remark(host, service, f"{counted(count, 'older line')} left out, {why}")
