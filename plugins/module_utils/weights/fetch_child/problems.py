"""What can be wrong, said so that people know what to do, and without credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import Order

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "DEPLOYER_HTTP_AUTHORIZATION")
BUSY = (408, 425, 429, 500, 502, 503, 504)
NETWORK = "check the network, the proxy variables (HTTPS_PROXY, NO_PROXY) and the address, then run it again"
AGAIN = "run it again: what was fetched is kept"


class Problem(Exception):
    """What is wrong, and what to do; `passing` where it may go away by itself."""

    def __init__(self, problem: str, fix: str, passing: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.fix, self.passing = problem, fix, passing


class Missing(Problem):
    """There is nothing at that address."""


@dataclass(frozen=True)
class Access:
    """What a source wants of who asks.

    Attributes:
        variable: of the environment, that credentials come from.
        terms: what has to be done besides.
    """

    variable: str
    terms: str = ""


def refused(status: int, name: str, access: Access) -> Problem:
    """The problem that a status says."""
    if status in (401, 403):
        given = "the one given is not accepted" if os.environ.get(access.variable, "").strip() else "none is given"
        terms = f"; {access.terms}" if access.terms else ""
        fix = f"give one that may read it in the environment variable {access.variable}{terms}"
        return Problem(f"{name} is not to be had without credentials, and {given} (HTTP {status})", fix)
    if status in (400, 404, 410):  # ModelScope answers 400 to a name that it does not know
        return Missing(f"{name} is not there (HTTP {status})", "correct the source")
    if status in BUSY:
        return Problem(f"{name}: the server answers HTTP {status}", "wait, then run it again", passing=True)
    return Problem(f"{name}: the server answers HTTP {status}", NETWORK)


def no_revision(order: Order, known: Sequence[str] = ()) -> Problem:
    """The problem of a revision that is not there."""
    has = f": it has {', '.join(known[:10])}" if known else ", as the model's page lists them"
    problem = f"{order.repository} has no revision {order.revision}"
    return Problem(problem, f"give a branch, a tag or a commit of it{has}")


def secret(variable: str) -> str:
    """A credential of the environment; '' where there is none."""
    value = os.environ.get(variable, "").strip()
    if not value.isprintable() or not value.isascii():
        raise Problem(f"{variable} holds a character that no credential has", "set it anew: it was copied with more")
    return value


def clean(text: str, variables: Mapping[str, str] = os.environ) -> str:
    """Text in one line for people: without credentials, and without what addresses have after `?`.

    Args:
        variables: environment variables, of which some hold credentials.
    """
    hidden = {variables.get(name, "").strip() for name in SECRETS}
    hidden |= {word for value in hidden for word in value.split()[1:]}
    for value in sorted(hidden, key=len, reverse=True):
        if value:
            text = text.replace(value, "…")
    text = re.sub(r"(//)[^/@\s]+@", r"\1…@", text)
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
