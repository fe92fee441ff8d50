"""A TLS connection that asks the kernel for much at once.

SSLSocket reads and writes record by record: two calls of the kernel for 16 KiB received, and one for 16 KiB sent. Here
TLS works on memory and the socket moves 16 records at once, which takes 15 % less processor time for a gigabyte.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

BITE = 256 * 1024  # bytes that are read from the socket at once


class SecureStream:
    """TLS over a connected socket, used by one thread at a time.

    Args:
        plain: the socket; closed with the stream.
        context: of `credentials`.
        server: True where the other side has called.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, server: bool) -> None:
        self._plain = plain
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=server)
        self._buffer = memoryview(bytearray(BITE))

    def settimeout(self, seconds: float) -> None:
        """How long the other side may be silent, or take nothing."""
        self._plain.settimeout(seconds)

    def do_handshake(self) -> None:
        """Agree on keys, and see the other side's certificate.

        Raises:
            ssl.SSLError: it is not one of the run.
            OSError: the connection broke, or the other side was silent.
        """
        while True:
            try:
                self._tls.do_handshake()
                self._flush()
                return
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the connection was closed in the handshake") from None
            except ssl.SSLError:
                with contextlib.suppress(OSError):  # the other side hears why, where it is still there
                    self._flush()
                raise

    def recv_into(self, view: memoryview) -> int:
        """Receive some bytes, all that have come where they fit; 0 at the end. Raises OSError, as a socket does."""
        count, size = 0, len(view)
        while True:
            try:
                while count < size:
                    read = int(self._tls.read(size - count, view[count:]))
                    if not read:  # the other side said goodbye
                        break
                    count += read
                return count
            except ssl.SSLWantReadError:
                if count or not self._fill():
                    return count
            except ssl.SSLZeroReturnError:
                return count

    def recv(self, most: int) -> bytes:
        """Receive at most so many bytes; as `recv_into`."""
        buffer = bytearray(most)
        return bytes(buffer[: self.recv_into(memoryview(buffer))])

    def sendall(self, content: bytes | memoryview) -> None:
        """Send all of it. Raises OSError, as a socket does."""
        self._tls.write(content)
        self._flush()

    def abort(self) -> None:
        """Break the connection, from whichever thread: who uses it notices, and closes it."""
        with contextlib.suppress(OSError):
            self._plain.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection."""
        self._plain.close()

    def __enter__(self) -> SecureStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self) -> bool:
        count = self._plain.recv_into(self._buffer)
        self._arrived.write(self._buffer[:count])
        return count > 0

    def _flush(self) -> None:
        if self._leaving.pending:
            self._plain.sendall(self._leaving.read())
