"""A link between two machines that is slow, or damages what it carries."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

BITE = 16 * 1024


class Proxy:
    """Passes TCP connections on to a target.

    Args:
        address: of the target.
        port: of the target.
        rate: bytes a second that come back from it, all connections together; 0 for no limit.
        flip_at: the number of the byte that comes back wrong, once; 0 for none.
        listen: address to bind; a free port is taken.
    """

    def __init__(self, address: str, port: int, rate: int = 0, flip_at: int = 0, listen: str = "127.0.0.1") -> None:
        self.rate = rate
        self.carried = 0
        self.flipped = False
        self._target = (address, port)
        self._flip_at = flip_at
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((listen, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut every connection, and take no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                reader, _ = self._listener.accept()
                try:
                    source = socket.create_connection(self._target)
                except OSError:
                    reader.close()
                    continue
                if self.rate:  # what lies in buffers is not slow
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * BITE)
                self._open += [reader, source]
                threading.Thread(target=self._pass, args=(reader, source, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(source, reader, True), daemon=True).start()

    def _pass(self, giver: socket.socket, taker: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while content := giver.recv(BITE):
                taker.sendall(self._seen(content) if back else content)
        for one in (giver, taker):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _seen(self, content: bytes) -> bytes:
        with self._lock:
            before = self.carried
            self.carried += len(content)
            if self._flip_at and not self.flipped and before <= self._flip_at < self.carried:
                self.flipped = True
                place = self._flip_at - before
                content = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            if self.rate:
                time.sleep(len(content) / self.rate)
        return content
