"""The address that a server listens on, and the names by which clients reach it."""

from __future__ import annotations

import ipaddress
import re
import socket

_BACKLOG = 4096  # thousands of clients may connect at once
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def host_name(text: str) -> str:
    """Return a host name or address as a certificate and a URL need it: without brackets, in ASCII.

    :raises ValueError: the text is neither, but for example a URL.
    """
    name = text.strip().removeprefix("[").removesuffix("]")
    if is_address(name):
        return name
    try:
        ascii_name = name.encode("idna").decode("ascii").rstrip(".")
    except UnicodeError:
        ascii_name = ""
    if not ascii_name or not all(map(_LABEL.fullmatch, ascii_name.split("."))):
        raise ValueError(f"{text!r} is not a host name or an address, without scheme and port")
    return ascii_name


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether a host can only be this machine, by its very name."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def url_host(host: str) -> str:
    """Write a host as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def own_address(host: str) -> str:
    """Return the address by which this machine reaches a listener on all its addresses."""
    return "::1" if ":" in host else "127.0.0.1"


def own_names() -> list[str]:
    """Return the names and addresses that every machine has for itself."""
    try:
        names = [host_name(socket.gethostname())]
    except ValueError:
        names = []
    return [*names, "localhost", "127.0.0.1", "::1"]


def open_listener(host: str, port: int) -> socket.socket:
    """Listen on exactly one address, which an outage can release and take again.

    :param host: an address, a name of this machine, or "" for all its addresses.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
