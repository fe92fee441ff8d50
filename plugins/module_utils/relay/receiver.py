"""Receives the models of an order on a host, and says how far it is."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
import time
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import incoming
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock, pretty_json
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, identity
from ansible_collections.deployer.sglang.plugins.module_utils.relay.background import this_process
from ansible_collections.deployer.sglang.plugins.module_utils.relay.credentials import client_context
from ansible_collections.deployer.sglang.plugins.module_utils.relay.files import GrowingFile, Served, WholeFile
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Peer, RelayOrder, Wanted
from ansible_collections.deployer.sglang.plugins.module_utils.relay.puller import Pull, Puller, Sources
from ansible_collections.deployer.sglang.plugins.module_utils.relay.rate import Meter, Throttle
from ansible_collections.deployer.sglang.plugins.module_utils.relay.records import asked_at
from ansible_collections.deployer.sglang.plugins.module_utils.relay.server import RelayServer
from ansible_collections.deployer.sglang.plugins.module_utils.relay.upstream import SourceLost, Upstream
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import manifest_record
from ansible_collections.deployer.sglang.plugins.module_utils.weights.on_host import Bringing, bringing, give_links
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE

REPORT_EVERY = 1.0  # seconds
FORSAKEN = 30.0  # seconds without a byte, and without anybody who asks, after which a relay gives up
LOCK_PATIENCE = 15.0  # seconds; an earlier run's relay was told to end
LAST_WORDS = 1024 * 1024  # bytes kept free on a disk that may fill up, to say that it did

Files = dict[tuple[str, str], Served]


@dataclass(frozen=True)
class _Model:
    wanted: Wanted
    found: Bringing
    twins: dict[str, GrowingFile]  # path in the model -> file of this run with the same content


class Receiver:
    """Receives on this host; threads of its own pull, hash and report.

    Args:
        order: with a root folder.
    """

    def __init__(self, order: RelayOrder) -> None:
        self.order = order
        self.store = Store(order.root)
        self.server: RelayServer | None = None
        self.files: Files = {}
        self._context = client_context(order.certificate, order.key)
        self._pulled = threading.Event()  # or failed
        self._ended = threading.Event()
        self._pulls: list[Pull] = []
        self._pullers: list[Puller] = []
        self._models: list[_Model] = []
        self._lock = threading.Lock()
        self._meter = Meter(5.0)
        self._sources = Sources(order.limits)
        self._streaming = 0
        self._total = 0
        self._resumed = 0
        self._received = 0
        self._done = 0
        self._state = "receiving"
        self._failure: DeployError | None = None
        self._started = time.time()
        self._landed: float | None = None
        self._last_words = -1
        self._process = this_process()
        self._reports = 0

    def prepare(self) -> None:
        """Take the host's lock, and look at what is there and what is to be pulled.

        Raises:
            DeployError: another run's relay is at it, the disk is too small, or a model is not what it was.
        """
        os.makedirs(os.path.dirname(self.store.relay), mode=0o755, exist_ok=True)
        busy = f"{self.store.relay_lock} is held by the relay of another run"
        with exclusive_lock(self.store.relay_lock, LOCK_PATIENCE, busy) as descriptor:
            os.dup(descriptor)  # held to the end of this process: until then a thread of it may be writing
        self._keep_seeds()
        growing: dict[str, GrowingFile] = {}
        for wanted in self.order.wanted:
            self._look(wanted, growing)
        # The largest first, on every host alike: the small ones fill up the streams at the end.
        self._pulls.sort(key=lambda pull: (-pull.file.entry.size, pull.file.entry.path))
        self._total = sum(pull.file.entry.size for pull in self._pulls)
        self._resumed = sum(pull.file.resumed for pull in self._pulls)
        incoming.check_room(self.order.root, self._total - self._resumed, "the transfer")
        self._keep_room()

    def _look(self, wanted: Wanted, growing: dict[str, GrowingFile]) -> None:
        """See what the host has of a model; `growing` has what is pulled already, by its sha256."""
        digest = wanted.manifest.digest
        target, arriving = self.store.model(wanted.name, digest), self.store.incoming(digest)
        incoming.claim(arriving)
        found = bringing(self.store, wanted.name, wanted.manifest)
        landing = incoming.landing_place(arriving, target)
        model = _Model(wanted, found, {})
        self._models.append(model)
        needed = {entry.path for entry in found.needed.files}
        for entry in wanted.manifest.files:
            self._refuse_failure()
            there = found.links.get(entry.path) or os.path.join(target, entry.path)
            if entry.path in found.links or entry.path not in needed:
                known = found.states.get(entry.path) or identity(there)
                self.files[digest, entry.path] = WholeFile(entry, there, known)
                continue
            twin = growing.get(entry.sha256)
            if twin is not None:
                model.twins[entry.path] = twin
            else:
                path = os.path.join(arriving, entry.path)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                later = [os.path.join(folder, entry.path) for folder in (landing, target)]
                twin = growing[entry.sha256] = GrowingFile(entry, path, later)
                self._pulls.append(Pull(digest, twin, wanted.sources))
            self.files[digest, entry.path] = twin

    def receive(self) -> bool:
        """Pull, verify and land everything; True when that was done."""
        self.report()
        reporter = threading.Thread(target=self._report_on, daemon=True)
        reporter.start()
        try:
            self._pull_all()
            self._land()
        except DeployError as error:
            self._failed(error)
        except OSError as error:
            self._failed(self._said(error, self.order.root))
        except Exception as error:
            self._failed(_unforeseen(error))
        finally:
            self._ended.set()
            reporter.join()
            self.report()
        return self._state == "landed"

    def end(self) -> None:
        """Leave it at what has arrived."""
        self._failed(DeployError("the transfer was ended", "run again: it resumes"))

    def _pull_all(self) -> None:
        """Pull in as many threads as there are streams; where one fails, none is waited for."""
        # One thread receives and another hashes: more of them than processors only get in each other's way.
        processors = len(os.sched_getaffinity(0))
        streams = max(1, min(self.order.limits.streams, processors, len(self._pulls)))
        throttle = Throttle(self.order.limits.rate)
        waiting = list(reversed(self._pulls))
        self._streaming = streams
        for _ in range(streams):
            threading.Thread(target=self._stream, args=(waiting, throttle), daemon=True).start()
        self._pulled.wait()
        self._refuse_failure()

    def _stream(self, waiting: list[Pull], throttle: Throttle) -> None:
        order = self.order
        puller = Puller(
            self._context, order.token, order.limits, self._sources, throttle, self._count, self._has_failed
        )
        self._pullers.append(puller)
        try:
            while not self._has_failed():
                with self._lock:
                    if not waiting:
                        break
                    pull = waiting.pop()
                self._pull(puller, pull)
        finally:
            puller.close()
            with self._lock:
                self._streaming -= 1
                last = not self._streaming
            if last:
                self._pulled.set()

    def _pull(self, puller: Puller, pull: Pull) -> None:
        try:
            puller.pull(pull)
            with self._lock:
                self._done += 1
        except DeployError as error:
            self._failed(error)
        except OSError as error:
            self._failed(self._said(error, pull.file.path))
        except Exception as error:  # or the thread would end, and nobody hear of it
            self._failed(_unforeseen(error))

    def _said(self, error: OSError, path: str) -> DeployError:
        fix = f"see the disk and the rights of {self.order.root}; run again: it resumes"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = f"free space on the disk of {self.order.root}; run again: it resumes"
        return DeployError(f"{error.filename or path}: {error.strerror or error}", fix)

    def _has_failed(self) -> bool:
        return self._failure is not None

    def _refuse_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _failed(self, error: DeployError) -> None:
        """Remember the first failure; who reads from here goes on elsewhere."""
        with self._lock:
            if self._failure is not None or self._state == "landed":
                return
            self._failure = error
            self._state = "failed"
        for pull in self._pulls:
            pull.file.fail(error)
        self._pulled.set()

    def _land(self) -> None:
        """Every file is verified and on the disk: put each model in its place."""
        self._state = "landing"
        for model in self._models:
            name, manifest = model.wanted.name, model.wanted.manifest
            # Before the first model lands: what twins are linked to lies where it arrived.
            give_links(self.store, name, manifest, {path: twin.path for path, twin in model.twins.items()}, {})
            give_links(self.store, name, manifest, model.found.links, model.found.states)
        for model in self._models:
            self._land_model(model)
        with self._lock:
            self._refuse_failure()
            self._landed = time.time()
            self._state = "landed"

    def _land_model(self, model: _Model) -> None:
        needed = model.found.needed.files
        if not needed:
            return
        manifest = model.wanted.manifest
        target, arriving = self.store.model(model.wanted.name, manifest.digest), self.store.incoming(manifest.digest)
        record = manifest_record(manifest, arriving, incoming.landing_place(arriving, target), target)
        linked = {*model.twins, *model.found.links}
        arrived = Manifest(tuple(entry for entry in needed if entry.path not in linked))
        incoming.land(arriving, target, arrived, {MANIFEST_FILE: record})

    def _count(self, size: int) -> None:
        with self._lock:
            self._received += size
            self._meter.count(size)

    def _keep_seeds(self) -> None:
        """Tell seeds now and then that they may be needed yet: a seed that nobody asks anything ends by itself."""
        for seed in {wanted.sources[-1] for wanted in self.order.wanted if wanted.sources}:
            threading.Thread(target=self._keep_seed, args=(seed,), daemon=True).start()

    def _keep_seed(self, seed: Peer) -> None:
        order = self.order
        while self._state != "landed" and not self._has_failed():
            with contextlib.suppress(SourceLost, DeployError):
                connection = Upstream(seed, self._context, order.token, order.limits, self._has_failed)
                try:
                    connection.touch()
                finally:
                    connection.close()
            time.sleep(order.limits.linger / 4)

    def _keep_room(self) -> None:
        """Keep a little of the disk, in a file without a name that is gone with this process."""
        with contextlib.suppress(OSError):  # not on every file system
            self._last_words = os.open(os.path.dirname(self.store.relay), os.O_TMPFILE | os.O_WRONLY, 0o600)
            os.posix_fallocate(self._last_words, 0, LAST_WORDS)

    def _report_on(self) -> None:
        came, before = time.monotonic(), -1
        while not self._ended.wait(REPORT_EVERY):
            self.report()
            if self._received != before:
                came, before = time.monotonic(), self._received
            # The controller has gone, and its seed with it.
            if time.monotonic() - came > FORSAKEN and time.time() - asked_at(self.store) > FORSAKEN:
                self._failed(DeployError("nothing comes any more, and nobody waits for it", "run again: it resumes"))

    def report(self) -> None:
        """Write how far it is; who deployed reads it."""
        with self._lock:
            rate = self._meter.rate
        self._reports += 1
        value: dict[str, Any] = {
            "run": self.order.run,
            **self._process,
            "reports": self._reports,
            "state": self._state,
            "total": self._total,
            "resumed": self._resumed,
            "received": self._received,
            "sent": self.server.sent if self.server else 0,
            "rate": int(rate),
            "files": len(self._pulls),
            "files_done": self._done,
            "linked": sum(len(model.found.links) + len(model.twins) for model in self._models),
            "sources": sorted({puller.source for puller in self._pullers} - {""}),
            "lost": self._sources.all_reasons(),
            "started": self._started,
            "landed": self._landed,
            "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        if self._failure is not None:
            error = self._failure
            value["error"] = {"problem": error.problem, "fix": error.fix, "detail": error.detail}
            if self._last_words >= 0:
                os.close(self._last_words)
                self._last_words = -1
        with contextlib.suppress(OSError):  # a full disk fails the transfer, not what is said of it
            _replace(self.store.relay, pretty_json(value))


def _replace(path: str, text: str) -> None:
    """Replace a file in one step. It need not outlive a power cut: a sync, every second, would hold up the transfer."""
    partial = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(partial, path)


def _unforeseen(error: Exception) -> DeployError:
    return DeployError(f"the relay failed: {error!r}", "run again; report it when it comes again")
