"""Which network addresses media may be fetched from: those of the public internet."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from mmfeat.schemas.errors import ItemError

# All IPv6 addresses of the public internet (RFC 4291, section 2.4).
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# Stands for IPv4 addresses in networks without IPv4 (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")
# The metadata services of Azure and Oracle, on addresses that otherwise look public.
_METADATA = (IPv4Address("168.63.129.16"), IPv4Address("192.0.0.192"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and no cloud's metadata service."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        inner = (
            ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        )
        return is_public(str(inner)) if inner else ip in _GLOBAL_UNICAST and ip.is_global
    return ip.is_global and not ip.is_multicast and ip not in _METADATA


def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a host, in the order to try them.

    Decimal, octal and shortened forms (``2130706433``, ``0177.1``) are addresses here, as they are
    to the system's resolver.

    Raises:
        ItemError: stage ``read``: there is no such host.
        OSError: the name service did not answer.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise ItemError("read", f"{host!r} is not a host name") from None
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
            raise ItemError("read", f"there is no host {host}") from None
        raise
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def check_public(host: str, addresses: list[str]) -> None:
    """Refuse a host if any of its addresses is not public.

    Raises:
        ItemError: stage ``read``.
    """
    for address in addresses:
        if not is_public(address):
            named = host if host == address else f"{host} ({address})"
            raise ItemError(
                "read",
                f"{named} is not a public address; "
                "set limits.fetch.allow_private_addresses to fetch from your own network",
            )
