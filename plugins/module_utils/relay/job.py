"""One relay from its beginning to its end: receives models on a host, or only serves what a seed has."""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
import threading

from ansible_collections.deployer.sglang.plugins.module_utils.procfs import runs
from ansible_collections.deployer.sglang.plugins.module_utils.relay.background import Say
from ansible_collections.deployer.sglang.plugins.module_utils.relay.credentials import server_context
from ansible_collections.deployer.sglang.plugins.module_utils.relay.files import WholeFile
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import RelayOrder
from ansible_collections.deployer.sglang.plugins.module_utils.relay.rate import Throttle
from ansible_collections.deployer.sglang.plugins.module_utils.relay.receiver import Files, Receiver
from ansible_collections.deployer.sglang.plugins.module_utils.relay.server import RelayServer

LOOK_EVERY = 1.0  # seconds
ENDING = (signal.SIGTERM, signal.SIGINT)


def run_relay(order: RelayOrder, say: Say) -> None:
    """Serve, receive, land, and serve on until told to end, or until nobody has read for a while.

    It is the work of a whole process, which has to end when this returns: threads may be left.

    Args:
        order: what to do.
        say: told address and port once it listens; who started this waits for it.
    Raises:
        DeployError: it cannot begin. What goes wrong later is in the progress that it writes.
    """
    # A thread waits for signals: a handler would run in the middle of whatever holds the lock that it needs.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _allow_descriptors()
    told = threading.Event()
    receiver = Receiver(order) if order.root else None
    threading.Thread(target=_heed_signals, args=(told, receiver), daemon=True).start()
    if receiver is not None:
        receiver.prepare()
    files: Files = {**(receiver.files if receiver else {}), **_offered(order)}
    context = server_context(order.certificate, order.key)
    server = RelayServer(order.listen, order.ports, context, order.token, files, Throttle(order.limits.rate))
    server.start()
    if receiver is not None:
        receiver.server = server
        receiver.report()
    say({"address": order.listen, "port": server.port})
    if receiver is None or receiver.receive():
        _linger(order, server, receiver, told)
    server.stop()
    if order.folder:
        shutil.rmtree(order.folder, ignore_errors=True)


def _heed_signals(told: threading.Event, receiver: Receiver | None) -> None:
    signal.sigwait(ENDING)
    told.set()
    if receiver is not None:
        receiver.end()


def _allow_descriptors() -> None:
    """As many as this process may have: every reader needs two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # the system's own limit may have become lower
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _offered(order: RelayOrder) -> Files:
    """The files of a seed's folders."""
    files: Files = {}
    for offer in order.offers:
        digest = offer.manifest.digest
        for entry in offer.manifest.files:
            files[digest, entry.path] = WholeFile(entry, offer.files[entry.path], offer.states[entry.path])
    return files


def _linger(order: RelayOrder, server: RelayServer, receiver: Receiver | None, told: threading.Event) -> None:
    """Serve until told to end, until the run's controller has gone, or until nobody has asked for a while."""
    reported = -1
    while not told.wait(LOOK_EVERY):
        if receiver is not None and server.sent != reported:
            reported = server.sent
            receiver.report()
        if order.watch[0] and not runs(*order.watch):
            return
        if not order.watch[0] and server.quiet > order.limits.linger:
            return
