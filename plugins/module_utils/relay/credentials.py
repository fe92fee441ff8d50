"""Who may take part in a run: one certificate and one token, made for it and known to nobody else.

Everyone who takes part shows the run's certificate and trusts no other, server and client alike, and then sends the
token. Both reach a host inside a module's arguments, over SSH, and are never in a file of a disk.
"""

from __future__ import annotations

import hmac
import os
import ssl

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, <openssl/x509_vfy.h>


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """A TLS context that serves only who shows this run's certificate.

    Args:
        certificate: PEM.
        key: its private key, PEM.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key)
    context.num_tickets = 0  # nobody resumes a session: who comes again shows the certificate again
    return context


def client_context(certificate: str, key: str) -> ssl.SSLContext:
    """A TLS context that talks only to who shows this run's certificate; arguments as `server_context`."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key)


def same_token(given: object, token: str) -> bool:
    """True for the run's token, in a time that does not tell how much of it was right."""
    return isinstance(given, str) and hmac.compare_digest(given.encode(errors="replace"), token.encode())


def _context(protocol: ssl._SSLMethod, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate is pinned: it belongs to the run, not to a host
    context.verify_mode = ssl.CERT_REQUIRED
    # The run ends with its processes, not at a time, and a host's clock may be years off.
    context.verify_flags |= NO_CHECK_TIME
    context.load_verify_locations(cadata=certificate)
    # load_cert_chain reads a file only: one that lies in memory and has no name.
    descriptor = os.memfd_create("relay", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, f"{certificate}\n{key}".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
