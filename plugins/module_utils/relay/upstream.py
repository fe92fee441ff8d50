"""One connection to a source, and what comes over it."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.relay import wire
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Limits, Peer
from ansible_collections.deployer.sglang.plugins.module_utils.relay.rate import MOMENT, Meter
from ansible_collections.deployer.sglang.plugins.module_utils.relay.stream import SecureStream

CONNECT = 5.0  # seconds
LONGEST_HASH = 80  # bytes of one block's sha256 in JSON


class SourceLost(Exception):
    """A source gives nothing more now; another one may.

    Args:
        why: for people.
        slow: True where it gives something, but less than the floor.
        stale: True where the connection had been idle and was closed meanwhile, which says nothing of the source.
    """

    def __init__(self, why: str, slow: bool = False, stale: bool = False) -> None:
        super().__init__(why)
        self.slow = slow
        self.stale = stale


class Upstream:
    """A connection to one source, asked for one file after the other.

    Args:
        peer: the source.
        context: of `credentials.client_context`.
        token: of the run.
        limits: `stall`, `floor` and `window` of them.
        stopped: True once the transfer is to end.
    Raises:
        SourceLost: it cannot be reached, or is not of this run.
    """

    def __init__(
        self, peer: Peer, context: ssl.SSLContext, token: str, limits: Limits, stopped: Callable[[], bool]
    ) -> None:
        self.peer = peer
        self._token = token
        self._limits = limits
        self._floor = least_rate(limits)
        self._stopped = stopped
        self._answers = 0
        self._heard = False  # anything of the present answer
        try:
            plain = socket.create_connection((peer.address, peer.port), min(CONNECT, limits.stall))
        except OSError as error:
            raise SourceLost(f"no connection to {peer.address} port {peer.port}: {said(error)}") from None
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._secure = SecureStream(plain, context, server=False)
            self._secure.do_handshake()
        except (OSError, ValueError) as error:
            plain.close()
            raise SourceLost(f"{peer.address} port {peer.port} is not of this run: {said(error)}") from None
        self._secure.settimeout(limits.stall)

    def pull(
        self,
        artifact: str,
        path: str,
        offset: int,
        length: int,
        take: Callable[[memoryview], None],
        on_state: Callable[[int], None],
        patient: bool,
    ) -> None:
        """Take bytes of a file.

        Args:
            artifact: digest of the model.
            path: of the file in it.
            offset: the first byte wanted.
            length: how many.
            take: called with what came, in order.
            on_state: called with STARVED or BOTTLENECK: what this host is to those who read the file from it.
            patient: do not leave the source for being slow; there is no better one.
        Raises:
            SourceLost: it broke off, is silent, or slower than the floor for no fault of another's.
            DeployError: it says that the file cannot be served.
        """
        meter = Meter(self._limits.window)
        blamed_since = heard = 0.0
        given = time.monotonic()
        buffer = memoryview(bytearray(min(wire.FRAME, length)))
        self._ask(wire.CONTENT, artifact, path, offset, length)
        while not self._stopped():
            kind, size = self._header()
            now = time.monotonic()
            if kind == wire.END and length == 0:
                self._answers += 1
                return
            if kind == wire.DATA and size <= length:
                self._fill(buffer[:size], meter, patient)
                length -= size
                take(buffer[:size])
                given = time.monotonic()
                if meter.full:
                    on_state(wire.STARVED if meter.rate >= self._floor else wire.BOTTLENECK)
                if now - heard > 2 * wire.HEARTBEAT:
                    blamed_since = 0.0  # it has more than it sends: what is slow is between us
                continue
            if kind in (wire.DATA, wire.END):
                raise SourceLost(f"{self.peer.name} gives another number of bytes than it was asked for")
            if now - given > self._limits.patience:  # it lives, and that is all: its disk may hang
                raise SourceLost(f"{self.peer.name} has given nothing for {self._limits.patience:.0f} s", slow=True)
            heard = now
            meter.restart()  # this host has all there is: nothing can be said of the link
            on_state(wire.STARVED)
            # A bottleneck may be looking for another source: it gets the time for that. Where it is merely starved,
            # somebody further up the chain is to blame, and seen to by who is next to it.
            blamed_since = (blamed_since or now) if kind == wire.BOTTLENECK else 0.0
            if blamed_since and not patient and now - blamed_since > 2 * self._limits.window:
                raise SourceLost(f"{self.peer.name} itself receives less than the floor", slow=True)
        raise SourceLost("the transfer was ended")

    def blocks(self, artifact: str, path: str, count: int) -> list[str]:
        """sha256 of every block of a file, of which it has `count`; raises as `pull`."""
        self._ask(wire.BLOCKS, artifact, path, 0, 0)
        content = bytearray()
        while not self._stopped():
            kind, size = self._header()
            if kind == wire.DATA and len(content) + size <= (count + 1) * LONGEST_HASH:
                content += self._content(size)
            elif kind == wire.END:
                self._answers += 1
                return self._hashes(bytes(content), count)
            elif kind == wire.DATA:
                raise SourceLost(f"{self.peer.name} gives more hashes than the file has blocks")
        raise SourceLost("the transfer was ended")

    def touch(self) -> None:
        """Tell it that it may be needed yet; raises as `pull`."""
        self._ask(wire.ALIVE, "", "", 0, 0)
        self._header()

    def close(self) -> None:
        """End the connection."""
        self._secure.close()

    def _ask(self, ask: str, artifact: str, path: str, offset: int, length: int) -> None:
        self._heard = False
        try:
            self._secure.sendall(wire.request(self._token, ask, artifact, path, offset, length))
        except OSError as error:
            raise self._lost(error) from None

    def _header(self) -> tuple[int, int]:
        try:
            kind, size = wire.read_header(self._secure)
            self._heard = True
            if kind != wire.FAILED:
                return kind, size
            answer = json.loads(wire.read_content(self._secure, size))
            if not isinstance(answer, dict):
                raise ValueError("not a relay's answer")
        except (OSError, ValueError, RecursionError) as error:
            raise self._lost(error) from None
        raise DeployError(str(answer.get("problem")), str(answer.get("fix")))

    def _content(self, size: int) -> bytes:
        try:
            return wire.read_content(self._secure, size)
        except OSError as error:
            raise self._lost(error) from None

    def _hashes(self, content: bytes, count: int) -> list[str]:
        try:
            hashes = json.loads(content)
        except (ValueError, RecursionError):
            hashes = None
        if not isinstance(hashes, list) or len(hashes) != count:
            raise SourceLost(f"{self.peer.name} does not give the hashes of its blocks")
        return [str(one) for one in hashes]

    def _fill(self, view: memoryview, meter: Meter, patient: bool) -> None:
        """Read one frame, watching the rate: on a slow link a single one takes longer than the window."""
        since, uncounted = time.monotonic(), 0
        try:
            while len(view):
                count = self._secure.recv_into(view)
                if count == 0:
                    raise wire.Closed("the connection was closed")
                view = view[count:]
                uncounted += count
                if len(view) and time.monotonic() - since < MOMENT:
                    continue
                meter.count(uncounted)
                since, uncounted = time.monotonic(), 0
                if meter.full and not patient and meter.rate < self._floor:
                    raise SourceLost(f"{self.peer.name} gives {meter.rate / 1e6:.2f} MB/s, less than the floor", True)
        except OSError as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> SourceLost:
        stale = self._answers > 0 and not self._heard and not isinstance(error, socket.timeout)
        where = f"{self.peer.name} ({self.peer.address} port {self.peer.port})"
        return SourceLost(f"{where}: {said(error)}", stale=stale)


def least_rate(limits: Limits) -> float:
    """Bytes a second below which one stream leaves its source: the streams of a host share its link."""
    floor = min(limits.floor, limits.rate / 2) if limits.rate else limits.floor
    return floor / max(1, limits.streams)


def said(error: Exception) -> str:
    """An error of a connection in words."""
    if isinstance(error, socket.timeout):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'reason', None) or error}"  # one made here, not by OpenSSL, has no reason
    return str(getattr(error, "strerror", None) or error)
