"""The addresses of this machine's network interfaces."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

SIOCGIFADDR = 0x8915  # <linux/sockios.h>: the first IPv4 address of an interface
NAME_SIZE = 16  # IFNAMSIZ of <net/if.h>, the final NUL included


def address_of(given: str) -> str:
    """An address as it is; the name of an interface becomes its first IPv4 address.

    Args:
        given: address, host name or interface name; '' stays.
    Raises:
        DeployError: the interface has no IPv4 address, or it is neither interface nor address.
    """
    if not given or "/" in given or not os.path.isdir(f"/sys/class/net/{given}"):
        if given:
            _refuse_unknown(given)
        return given
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            request = struct.pack("256s", given.encode()[: NAME_SIZE - 1])
            answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
        except OSError as error:
            raise DeployError(
                f"interface {given} has no IPv4 address: {error.strerror}",
                "set model_relay_address to an interface that has one, or to an address",
            ) from None
    return socket.inet_ntoa(answer[20:24])


def _refuse_unknown(given: str) -> None:
    try:
        socket.getaddrinfo(given, None)
    except (OSError, UnicodeError):
        there = ", ".join(sorted(os.listdir("/sys/class/net")))
        raise DeployError(
            f"model_relay_address {given!r} is no address, and no interface of this host, which has {there}",
            "name one of them, or an address of this host",
        ) from None
