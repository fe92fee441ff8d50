"""The servers that `compare` is given: a URL, which the controller asks, or HOST:SERVICE, which is measured there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

if TYPE_CHECKING:
    from deployer.api import Deployer
    from deployer.api.comparisons import Asked, LoadBy, Measurement

ON_HOST = re.compile(r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*):(?P<service>(?![0-9]+$)[a-z0-9][a-z0-9._-]*)")


@dataclass(frozen=True)
class ComparedServer:
    """A server of the command line.

    Args:
        word: that names it.
        model: the name to ask for; '' for the first that it lists.
        about: what the operator says of it.
    """

    word: str
    model: str = ""
    about: str = ""

    @property
    def on_host(self) -> tuple[str, str]:
        """Its host and service; two empty words for a URL."""
        found = ON_HOST.fullmatch(self.word)
        return (found["host"], found["service"]) if found else ("", "")

    def measured(
        self, asked: Asked, put_under: LoadBy | None, deployer: Deployer, say: Callable[[str], None]
    ) -> Measurement:
        """What it answers, and how fast.

        Args:
            asked: what is measured.
            put_under: what makes the load of a URL; None for no load.
            deployer: reaches hosts.
            say: told how far it is.

        Raises:
            DeployError: it does not answer, or the load cannot be made.
        """
        from deployer.api import comparisons

        host, service = self.on_host
        if host:
            say(f"{self.word}: measured on the host")
            return self._on_host(dataclasses.replace(deployer, limit=host), service, asked)
        return comparisons.measure(
            self.word,
            model=self.model,
            prompts=asked.prompts,
            max_tokens=asked.max_tokens,
            ask=asked.ask,
            put_under=put_under,
            about=self.about,
            say=say,
        )

    def _on_host(self, deployer: Deployer, service: str, asked: Asked) -> Measurement:
        found = deployer.measure(
            services=(service,),
            prompts=asked.prompts,
            max_tokens=asked.max_tokens,
            ask=asked.ask,
            load=asked.load,
            one_host=True,
        )
        measurement = found[0].measurement
        if len(found) > 1:
            raise DeployError(f"{self.word}: there is more than one such host", "give the name of one, not a group's")
        if measurement is None:
            problem, _, fix = found[0].problem.partition(". Fix: ")
            raise DeployError(f"{self.word}: {problem}", fix)
        about = self.about or measurement.server.about
        return dataclasses.replace(measurement, server=dataclasses.replace(measurement.server, about=about))
