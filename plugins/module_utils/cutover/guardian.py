"""A process that outlives the one which changes a host, and puts things right when that one is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

Answer = dict[str, Any]


def guarded(work: Callable[[], Answer], mend: Callable[[str], Answer]) -> Answer:
    """Do `work` in a child, in a session of its own, and `mend` when that child is killed.

    What ends one of the two leaves the other: without this one the child comes to its end by itself, and without the
    child this one brings back what was committed.

    Args:
        work: returns what JSON holds.
        mend: called with how the child ended, when it ended without an answer.
    Returns:
        What `work` or `mend` returned.
    Raises:
        DeployError: of either.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(work, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    answer = _parsed(text)
    if answer is None:
        return mend(_ended(status))
    if "problem" in answer:
        raise DeployError(answer["problem"], answer["fix"], answer["detail"])
    result: Answer = answer["result"]
    return result


def _child(work: Callable[[], Answer], writer: int) -> None:
    """The child's part; does not return."""
    try:
        with contextlib.suppress(OSError):
            os.setsid()
        try:
            answer: Answer = {"result": work()}
        except DeployError as error:
            answer = {"problem": error.problem, "fix": error.fix, "detail": error.detail}
        except OSError as error:
            answer = {"problem": str(error), "fix": "see the disk and the rights on this host", "detail": ""}
        # Where the guardian was killed nobody reads this, and the pipe's signal must not matter.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        content = json.dumps(answer).encode()
        while content:
            content = content[os.write(writer, content) :]
    finally:
        os._exit(0)  # nothing of the parent's may run here again


def _parsed(text: str) -> Answer | None:
    try:
        answer = json.loads(text)
    except ValueError:  # killed before it answered, or while it did
        return None
    return answer if isinstance(answer, dict) else None


def _ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"its process was killed by signal {os.WTERMSIG(status)}"
    return f"its process ended with {os.WEXITSTATUS(status)} and without an answer"
