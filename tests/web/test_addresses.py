"""Which addresses may be contacted."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from cpt_ray.addresses import Permission, PrivateAddressError, is_address
from cpt_ray.errors import UserError
from cpt_ray.web.addresses import GuardedResolver

PRIVATE = [
    "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255",
    "::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::", "not an address",
    "::127.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b:1::a9fe:a9fe", "2001:0:7f00:1::", "fd00:ec2::254", "fec0::1",
    "192.0.0.192", "100.100.100.200", "168.63.129.16", "::ffff:168.63.129.16",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(address: str) -> None:
    """Loopback, private, link-local (cloud metadata), multicast, and IPv4 hidden in IPv6."""
    assert not Permission(()).allows(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_public_addresses_are_allowed(address: str) -> None:
    """The public internet, over NAT64 too."""
    assert Permission(()).allows(address)


def test_permission_is_for_the_listed_network_only() -> None:
    """Allowing loopback does not allow the rest."""
    permission = Permission(("127.0.0.1/32",))
    assert permission.allows("127.0.0.1")
    assert permission.allows("::ffff:127.0.0.1")
    assert not permission.allows("127.0.0.2")
    assert not permission.allows("10.0.0.1")
    with pytest.raises(UserError, match="allow_private"):
        Permission(("home",))


class Answers(AbstractResolver):
    """A name server that says what the test wants."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:  # type: ignore[override]
        return [ResolveResult(hostname=host, host=a, port=port, family=2, proto=0, flags=0) for a in self.addresses]

    async def close(self) -> None:
        """Nothing is open."""


def resolve(
    dns: Answers, *, allow: tuple[str, ...] = (), static: dict[str, str] | None = None
) -> list[tuple[str, int]]:
    resolver = GuardedResolver(Permission(allow), static or {}, dns)
    return [(found["host"], found["port"]) for found in asyncio.run(resolver.resolve("docs.example", 80))]


def test_only_checked_addresses_are_handed_on() -> None:
    """Of a mixed answer the public part is used, so the connection goes to an address that was checked."""
    assert resolve(Answers("10.0.0.1", "93.184.216.34")) == [("93.184.216.34", 80)]
    with pytest.raises(PrivateAddressError, match="not public"):
        resolve(Answers("10.0.0.1", "::1"))


def test_static_names_need_permission_too() -> None:
    """A mapping says where, not that one may."""
    static = {"docs.example": "127.0.0.1:8123"}
    assert resolve(Answers(), allow=("127.0.0.1/32",), static=static) == [("127.0.0.1", 8123)]
    with pytest.raises(PrivateAddressError):
        resolve(Answers(), static=static)


def test_is_address() -> None:
    """Names and addresses told apart as URLs write them."""
    assert is_address("127.0.0.1")
    assert is_address("[::1]")
    assert not is_address("example.org")
