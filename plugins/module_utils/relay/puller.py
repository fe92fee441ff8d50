"""Pulls files from the nearest source that gives them, and verifies them as they come."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.relay import wire
from ansible_collections.deployer.sglang.plugins.module_utils.relay.answer import BLOCK
from ansible_collections.deployer.sglang.plugins.module_utils.relay.files import GrowingFile
from ansible_collections.deployer.sglang.plugins.module_utils.relay.hasher import Hasher, hash_range
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Limits, Peer
from ansible_collections.deployer.sglang.plugins.module_utils.relay.rate import Throttle
from ansible_collections.deployer.sglang.plugins.module_utils.relay.upstream import SourceLost, Upstream

AVOIDED = 60.0  # seconds for which a source that was lost is not the first choice again
RETRY = 0.5  # seconds
HASHED_AFTERWARDS = 1024 * 1024  # bytes; for a smaller file no thread is worth starting


@dataclass(frozen=True)
class Pull:
    """A file to be pulled: the digest of its model, the file, and its sources, the nearest first."""

    artifact: str
    file: GrowingFile
    sources: tuple[Peer, ...]


class Sources:
    """What this host knows of the sources of a run, shared by its streams.

    Args:
        limits: `start` and `patience` of them.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._silent_since: float | None = None
        self._lost: dict[Peer, tuple[float, str, bool]] = {}  # when, why, whether for being slow
        self._met: set[Peer] = set()
        self._slow: set[Peer] = set()

    def choose(self, sources: Sequence[Peer]) -> tuple[Peer, bool]:
        """The nearest source that was not lost lately; the one lost longest ago where all were.

        Returns:
            The source, and whether to stay with it however slow it is: all the others are slow as well.
        """
        with self._lock:
            now = time.monotonic()
            patient = all(one in self._slow for one in sources)
            for one in sources:
                lost = self._lost.get(one)
                if lost is None or (one in self._met and now - lost[0] > AVOIDED) or (patient and lost[2]):
                    return one, patient
            return min(sources, key=lambda one: self._lost[one][0]), patient

    def met(self, source: Peer) -> None:
        """It answered."""
        with self._lock:
            self._met.add(source)

    def got(self) -> None:
        """Something came, from whichever source."""
        self._silent_since = None

    def lost(self, source: Peer, why: str, slow: bool) -> None:
        """Remember that a source was left, and why.

        A source that was never met may just not have begun to listen: it gets its time before it counts as lost.
        """
        with self._lock:
            now = time.monotonic()
            if self._silent_since is None:
                self._silent_since = now
            if slow:
                self._slow.add(source)
            if source in self._met or now - self._began > self._limits.start:
                self._lost[source] = (now, why, slow)

    @property
    def exhausted(self) -> bool:
        """True when asking has brought nothing for as long as this host is to be patient."""
        since = self._silent_since
        return since is not None and time.monotonic() - since > max(self._limits.patience, self._limits.start)

    def all_reasons(self) -> dict[str, str]:
        """Why sources were left, by their names."""
        with self._lock:
            return {one.name: why for one, (_, why, _) in self._lost.items()}

    def reasons(self, sources: Sequence[Peer]) -> str:
        """Why each of the sources was left, a line each."""
        with self._lock:
            return "\n".join(f"{one.name}: {self._lost[one][1]}" for one in sources if one in self._lost)


class Puller:
    """One stream: pulls one file after the other, over one connection at a time.

    Args:
        context: of `credentials.client_context`.
        token: of the run.
        limits: see `Limits`.
        known: what all streams know of the sources.
        throttle: what all that is received passes.
        count: called with the number of bytes of every frame that came.
        stopped: True once the transfer is to end.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        token: str,
        limits: Limits,
        known: Sources,
        throttle: Throttle,
        count: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._context = context
        self._token = token
        self._limits = limits
        self._known = known
        self._throttle = throttle
        self._count = count
        self._stopped = stopped
        self._upstream: Upstream | None = None

    @property
    def source(self) -> str:
        """The name of the source that is pulled from; '' for none."""
        upstream = self._upstream
        return upstream.peer.name if upstream else ""

    def pull(self, pull: Pull) -> None:
        """Receive the rest of a file, and compare its sha256 with the manifest's.

        Raises:
            DeployError: no source gives it, or what they give is not what the manifest says.
            OSError: the disk is full, or fails.
        """
        file = pull.file
        file.begin()
        hasher = Hasher(file, self._stopped)
        beside = threading.Thread(target=hasher.run, daemon=True) if file.entry.size > HASHED_AFTERWARDS else None
        if beside is not None:
            beside.start()
        try:
            while file.have < file.entry.size:
                self._from_some(pull, file.have, file.entry.size, file.append, file.tell, pull.sources)
        finally:
            hasher.finish()
        if beside is not None:
            beside.join()
        else:
            hasher.run()
        if hasher.digest() != file.entry.sha256:
            self._repair(pull)
        file.finish()

    def close(self) -> None:
        """End the connection."""
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None

    def _from_some(
        self,
        pull: Pull,
        start: int,
        end: int,
        append: Callable[[memoryview], None],
        on_state: Callable[[int], None],
        sources: Sequence[Peer],
    ) -> None:
        """Pull a range from the best source until it has given all or is lost."""

        def take(content: memoryview) -> None:
            append(content)
            self._known.got()
            self._count(len(content))
            self._throttle.take(len(content))

        upstream, patient = self._connected(pull, sources)
        if upstream is None:
            return
        try:
            upstream.pull(pull.artifact, pull.file.entry.path, start, end - start, take, on_state, patient)
        except SourceLost as error:
            self._leave(pull, upstream.peer, error)
            on_state(wire.BOTTLENECK)
        except DeployError as error:
            # A relay that has failed says so, and others may have the file; the last one is the seed's word.
            if upstream.peer == pull.sources[-1]:
                raise
            self._leave(pull, upstream.peer, SourceLost(str(error)))

    def _connected(self, pull: Pull, sources: Sequence[Peer]) -> tuple[Upstream | None, bool]:
        """A connection to the best source; None when that could not be made just now."""
        self._refuse_end(pull)
        wanted, patient = self._known.choose(sources)
        if self._upstream is not None and self._upstream.peer == wanted:
            return self._upstream, patient
        self.close()
        try:
            self._upstream = Upstream(wanted, self._context, self._token, self._limits, self._stopped)
        except SourceLost as error:
            self._leave(pull, wanted, error)
            time.sleep(RETRY)
            return None, patient
        self._known.met(wanted)
        return self._upstream, patient

    def _leave(self, pull: Pull, source: Peer, error: SourceLost) -> None:
        """Close the connection, and give up where no source gave anything for too long."""
        self.close()
        if error.stale:
            return
        self._known.lost(source, str(error), error.slow)
        if not self._known.exhausted:
            return
        reasons = self._known.reasons(pull.sources)
        raise DeployError(
            f"{pull.file.entry.path}: no source gives it: {reasons.splitlines()[-1] if reasons else error}",
            "see that the seed is up, and that the relay's ports are open to this host, or set model_transport: rsync; "
            "run again: it resumes",
            reasons,
        )

    def _refuse_end(self, pull: Pull) -> None:
        if self._stopped():
            raise DeployError(f"{pull.file.entry.path}: the transfer was ended", "run again: it resumes")

    def _repair(self, pull: Pull) -> None:
        """Fetch again the blocks that differ from the seed's, and compare the whole file once more."""
        file = pull.file
        size = file.entry.size
        for number, expected in enumerate(self._blocks(pull)):
            self._refuse_end(pull)
            start = number * BLOCK
            end = min(start + BLOCK, size)
            if hash_range(file, start, end) != expected:
                self._again(pull, start, end)
        hasher = Hasher(file, self._stopped)
        hasher.run()
        self._refuse_end(pull)
        got = hasher.digest()
        if got != file.entry.sha256:
            raise DeployError(
                f"{file.entry.path} differs from its manifest: sha256 wanted {file.entry.sha256}, got {got}",
                "the file changed at its source, or a disk or memory on the way is damaged: run again",
            )

    def _blocks(self, pull: Pull) -> list[str]:
        """sha256 of the blocks that the seed has."""
        count = -(-pull.file.entry.size // BLOCK)
        while True:
            upstream, _ = self._connected(pull, pull.sources[-1:])
            if upstream is None:
                continue
            try:
                return upstream.blocks(pull.artifact, pull.file.entry.path, count)
            except SourceLost as error:
                self._leave(pull, upstream.peer, error)

    def _again(self, pull: Pull, start: int, end: int) -> None:
        """Receive a range once more, from the seed."""
        done = start

        def overwrite(content: memoryview) -> None:
            nonlocal done
            pull.file.overwrite(done, content)
            done += len(content)

        while done < end:
            self._from_some(pull, done, end, overwrite, lambda state: None, pull.sources[-1:])
