"""The program: reads an order, carries it out, says what came of it."""

from __future__ import annotations

import json
import os
import sys

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.fetch import fetch
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.huggingface import HuggingFace
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.libraries import explained
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.modelscope import ModelScope
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import Problem, clean
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.progress import Reporter
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import (
    FACTS,
    FETCH,
    Listing,
    Order,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.skeleton import write_skeleton
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.source import Source
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.web_folder import WebFolder

KINDS: dict[str, type[Source]] = {"huggingface": HuggingFace, "modelscope": ModelScope, "http": WebFolder}


def main() -> None:
    """Read an order, carry it out, and leave without waiting for the libraries' threads."""
    # The libraries print, too: what they say goes to stderr.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    reporter = Reporter(out)
    order = Order(**json.loads(sys.stdin.buffer.read()))
    sys.path += [folder for folder in order.libraries if folder not in sys.path]
    try:
        reporter.say({"result": run(order, reporter).as_dict()})
        code = 0
    except Exception as error:
        problem = explained(error, order, KINDS[order.kind].access)
        reporter.say({"error": {"problem": clean(problem.problem), "fix": clean(problem.fix)}})
        code = 1
    os._exit(code)


def run(order: Order, reporter: Reporter) -> Listing:
    """The result of an order.

    Raises:
        Problem: there is none.
    """
    source = KINDS[order.kind](order)
    listing = resolve(source)
    if order.mode == FACTS:
        write_skeleton(source, listing, reporter)
    if order.mode == FETCH:
        listing = fetch(source, listing, reporter)
    return listing


def resolve(source: Source) -> Listing:
    """The files of the source, which is still what it was where the order says what that is.

    Raises:
        Problem: it changed; as `Source.listing`.
    """
    order, listing = source.order, source.listing()
    if order.commit and listing.commit != order.commit:
        raise Problem(f"{order.name} changed since it was looked at", "run it again")
    if order.allow is None:
        return listing
    allowed = set(order.allow)
    if lost := allowed - {file.path for file in listing.files}:
        raise Problem(f"{order.name} has no {sorted(lost)[0]}", "run it again")
    return Listing(listing.commit, tuple(file for file in listing.files if file.path in allowed))
