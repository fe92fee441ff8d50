"""Serves the files of a run to those who take part in it, while they are still growing."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import describe_listeners
from ansible_collections.deployer.sglang.plugins.module_utils.relay import wire
from ansible_collections.deployer.sglang.plugins.module_utils.relay.answer import Answer
from ansible_collections.deployer.sglang.plugins.module_utils.relay.credentials import same_token
from ansible_collections.deployer.sglang.plugins.module_utils.relay.files import Served
from ansible_collections.deployer.sglang.plugins.module_utils.relay.rate import Throttle
from ansible_collections.deployer.sglang.plugins.module_utils.relay.stream import SecureStream

HANDSHAKE = 5.0  # seconds that a stranger can hold a connection
IDLE = 60.0  # seconds in which a reader takes nothing, or asks for nothing: it can come again
MOST_STRANGERS = 128  # connections that have not shown the token yet; the oldest makes room for one more
MOST_READERS = 512
DEAD_AFTER = 30_000  # milliseconds without an acknowledgement, after which a reader's machine counts as gone
BREATH = 0.1  # seconds after which accepting is tried again where the machine has run out of something


class RelayServer:
    """Listens, and serves every connection in a thread of its own.

    Args:
        address: to bind.
        ports: the first free one is taken.
        context: of `credentials.server_context`.
        token: of the run.
        files: (digest of the model, path in it) -> file.
        throttle: what all that is sent passes.
    Raises:
        DeployError: the address is not this machine's, or no port is free.
    """

    def __init__(
        self,
        address: str,
        ports: Sequence[int],
        context: ssl.SSLContext,
        token: str,
        files: Mapping[tuple[str, str], Served],
        throttle: Throttle,
    ) -> None:
        self._context = context
        self._token = token
        self._files = files
        self._throttle = throttle
        self._lock = threading.Lock()
        self._strangers: dict[SecureStream, None] = {}  # the oldest first
        self._readers = 0
        self._reading = 0
        self._ended = threading.Event()
        self.sent = 0  # bytes of files
        self.last_read = time.monotonic()
        self._listener = _listen(address, ports)
        self.port = int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Begin to accept connections."""
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Accept no more. What is being served ends with the process."""
        self._ended.set()
        # A closed descriptor alone would leave the thread in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def quiet(self) -> float:
        """Seconds since somebody was served last; 0 while somebody is."""
        with self._lock:
            return 0.0 if self._reading else time.monotonic() - self.last_read

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # descriptors ran out, or whoever came has gone
                self._ended.wait(BREATH)
                continue
            try:
                self._welcome(connection)
            except (OSError, ValueError, RuntimeError):  # RuntimeError: no room for one more thread
                connection.close()

    def _welcome(self, connection: socket.socket) -> None:
        """Let a stranger in; where there are too many of them, the one that has hesitated longest goes."""
        connection.settimeout(HANDSHAKE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER)
        secure = SecureStream(connection, self._context, server=True)
        with self._lock:
            if len(self._strangers) >= MOST_STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.abort()
            self._strangers[secure] = None
        try:
            threading.Thread(target=self._serve, args=(secure,), daemon=True).start()
        except RuntimeError:
            self._forget(secure)
            secure.close()
            raise

    def _serve(self, secure: SecureStream) -> None:
        """One connection, from the handshake to its end."""
        try:
            with secure:
                secure.do_handshake()
                asked = wire.read_request(secure)
                if asked is not None and self._known(asked):
                    with self._admitted(secure) as room:
                        if room:
                            self._answer_all(secure, asked)
        except (OSError, ValueError):  # a stranger, or a reader that has gone: it says so where it is
            pass
        finally:
            self._forget(secure)

    def _known(self, asked: Mapping[str, object]) -> bool:
        return same_token(asked.get("token"), self._token)

    @contextlib.contextmanager
    def _admitted(self, secure: SecureStream) -> Iterator[bool]:
        """A stranger becomes a reader, where there is room for one."""
        self._forget(secure)
        with self._lock:
            room = self._readers < MOST_READERS
            self._readers += 1
        try:
            yield room
        finally:
            with self._lock:
                self._readers -= 1

    def _answer_all(self, secure: SecureStream, asked: dict[str, object] | None) -> None:
        secure.settimeout(IDLE)
        while asked is not None and self._known(asked):
            with self._counted():
                self._answer(secure, asked)
            asked = wire.read_request(secure)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._reading += 1
        try:
            yield
        finally:
            with self._lock:
                self._reading -= 1
                self.last_read = time.monotonic()

    def _answer(self, secure: SecureStream, asked: Mapping[str, object]) -> None:
        try:
            if asked.get("ask") != wire.ALIVE:
                served = self._files.get((str(asked.get("artifact")), str(asked.get("path"))))
                if served is None:
                    raise DeployError(f"{asked.get('path')!r} is not served here", "run the deployment again")
                Answer(secure, served, self._throttle, self._count).give(asked)
            secure.sendall(wire.frame(wire.END))
        except DeployError as error:
            content = json.dumps({"problem": error.problem[: wire.SAID], "fix": error.fix[: wire.SAID]}).encode()
            secure.sendall(wire.frame(wire.FAILED, content))

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size

    def _forget(self, secure: SecureStream) -> None:
        with self._lock:
            self._strangers.pop(secure, None)


def _listen(address: str, ports: Sequence[int]) -> socket.socket:
    problem: OSError | None = None
    for port in ports:
        try:
            family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address, port))
                listener.listen(128)
            except OSError:
                listener.close()
                raise
            return listener
        except OSError as error:
            problem = error
    said = str(problem.strerror or problem) if problem else "no port was given"
    if problem is not None and problem.errno == errno.EADDRINUSE:
        holder = describe_listeners(ports[0])
        said += f" ({holder})" if holder else ""
    which = f"{ports[0]}" if len(ports) == 1 else f"{ports[0]}-{ports[-1]}" if ports else "none"
    raise DeployError(
        f"cannot listen on {address} port {which}: {said}",
        "end what holds the port, or set model_relay_port or model_relay_address to what is free and this host's own",
    )
