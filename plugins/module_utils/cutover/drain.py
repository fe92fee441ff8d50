"""Waiting for a moment in which nobody is being answered, before the old release is stopped."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

from ansible_collections.deployer.sglang.plugins.module_utils import probes, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

POLL = 0.02  # seconds: between two requests of a busy service there is little more
ASKED_EVERY = 0.25  # seconds; SGLang's own count costs it a request
SHOWN = 300  # characters of what a hook printed


def wait_for_quiet(url: str, engine: str, port: int, timeout: float) -> bool:
    """Wait until no request runs.

    An engine that counts its requests is asked; of others connections count, where a client that keeps an idle one open
    looks like one that is being answered. Nothing keeps new requests away: that is the gateway's part.

    Args:
        url: of the service, from this host.
        engine: that serves it.
        port: of the service.
        timeout: seconds after which it is stopped all the same.
    Returns:
        False when requests were running until the end.
    """
    deadline = time.monotonic() + timeout
    asked = 0.0
    counts = True
    while True:
        now = time.monotonic()
        running: int | None = None
        if counts and now - asked >= ASKED_EVERY:
            asked, running = now, probes.running_requests(url, engine)
            counts = running is not None
        if not counts:
            running = procfs.connections_to(port)
        if running == 0:
            return True
        if now >= deadline:
            return False
        time.sleep(POLL)


def run_hook(name: str, command: Sequence[str], timeout: float) -> None:
    """Run a gateway's command on this host.

    Args:
        name: `drain` or `restore`, for messages.
        command: its words; none for nothing to do.
        timeout: seconds.
    Raises:
        DeployError: it fails, or takes too long.
    """
    if not command:
        return
    what = f"the gateway's {name} command ({procfs.short_command(command)})"
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeployError(f"{what} took longer than {timeout:g} s", "see to it, or raise gateway.timeout") from None
    except OSError as error:
        raise DeployError(f"{what} cannot be run: {error.strerror}", f"correct gateway.{name}") from None
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip()[-SHOWN:]
        raise DeployError(f"{what} ended with {done.returncode}: {said or 'it said nothing'}", "run it by hand")
