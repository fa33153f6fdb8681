"""Which addresses may be connected to: public ones, and those that permission was given for.

The check is made on the resolved address, and the connection must be made to that very address: then a name that changes
its answer between check and connection (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import urllib3

from cpt_ray.errors import UserError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
PORTS = {"http": 80, "https": 443}
"""Of schemes, where a URL names none."""


class PrivateAddressError(OSError):
    """All addresses of a host are private, loopback or otherwise not public."""


class Permission:
    """Public addresses, and the networks listed in `allow_private`."""

    def __init__(self, allow_private: Sequence[str]) -> None:
        try:
            self._networks = [ipaddress.ip_network(network) for network in allow_private]
        except ValueError as error:
            raise UserError(
                f"not a network: {error}", where="allow_private", fix='use CIDR notation, as in "127.0.0.1/32"'
            ) from None

    def allows(self, address: str) -> bool:
        """Whether connecting to this IP address is permitted."""
        try:
            ip: Address = ipaddress.ip_address(address.strip("[]").split("%", 1)[0])
        except ValueError:
            return False
        inner = _embedded(ip)
        if any(ip in network for network in self._networks):
            return True
        if inner is not None:
            return self.allows(str(inner))
        public = ip.is_global and not ip.is_multicast and not ip.is_reserved
        return public and not any(ip in network for network in _NEVER)


def permitted_address(host: str, port: int, permission: Permission, *, url: str, option: str) -> str:
    """The first address of `host` that is permitted; the connection must be made to it, not to the name.

    UserError about `url` where there is none; `option` is the one whose networks `permission` knows.
    """
    try:
        found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:  # the latter of a name with an empty or too long part
        raise UserError(f"{host} has no address: {error}", where=url, fix="check the URL") from None
    address = next((one for one in found if permission.allows(one)), None)
    if address is None:
        fix = f"give {option} its network if it is yours"
        raise UserError(f"{host} is {found[0]}, which is no public address", where=url, fix=fix)
    return address


def connections(
    scheme: str, host: str, port: int, permission: Permission, *, url: str, option: str, timeout: float
) -> urllib3.HTTPConnectionPool:
    """Connections by http or https to the one address of `host` that was looked at (`permitted_address`)."""
    address = permitted_address(host, port, permission, url=url, option=option)
    limits = urllib3.Timeout(connect=timeout, read=timeout)
    if scheme != "https":
        return urllib3.HTTPConnectionPool(address, port, timeout=limits)
    return urllib3.HTTPSConnectionPool(
        address,
        port,
        timeout=limits,
        ssl_context=ssl.create_default_context(),
        server_hostname=host,
        assert_hostname=host,
    )


def host_and_port(url: str, ports: Mapping[str, int] = PORTS) -> tuple[str, int]:
    """Whom a URL leads to: "" where it names no host, 0 where no port that there is, nor a scheme of `ports`."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or ports.get(parts.scheme, 0)
    except ValueError:
        return "", 0


def is_address(host: str) -> bool:
    """Whether a URL's host is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a URL's host is an address of this machine, which nothing that is sent to it leaves."""
    return is_address(host) and ipaddress.ip_address(host.strip("[]")).is_loopback


_CARRIERS = tuple(
    ipaddress.ip_network(prefix) for prefix in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
"""IPv6 networks whose addresses end in an IPv4 one: compatible, translated, NAT64 (the world's and a site's own)."""

_NEVER = tuple(ipaddress.ip_network(network) for network in ("192.0.0.0/24", "168.63.129.16/32", "fec0::/10"))
"""Global by the book, and not: metadata services of two clouds, site-local addresses."""


def _embedded(ip: Address) -> Address | None:
    """The IPv4 address inside an IPv6 one, which is where the packets go in the end."""
    if isinstance(ip, ipaddress.IPv4Address) or int(ip) < 2:
        return None
    if any(ip in carrier for carrier in _CARRIERS):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour
