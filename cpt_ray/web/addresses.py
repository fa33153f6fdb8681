"""A resolver of names for the crawler, which gives it the addresses alone that it may connect to."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from aiohttp.abc import AbstractResolver, ResolveResult

from cpt_ray.addresses import Permission, PrivateAddressError


class GuardedResolver(AbstractResolver):
    """Asks `dns`, drops the addresses that are not permitted, and maps names in `static` to "address:port"."""

    def __init__(self, permission: Permission, static: Mapping[str, str], dns: AbstractResolver) -> None:
        self._permission = permission
        self._static = static
        self._dns = dns

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host in self._static:
            address, _, mapped = self._static[host].rpartition(":")
            found = [_result(host, address.strip("[]"), int(mapped))]
        else:
            found = await self._dns.resolve(host, port, family)
        allowed = [result for result in found if self._permission.allows(result["host"])]
        if found and not allowed:
            raise PrivateAddressError(f"{host} resolves to {found[0]['host']}, which is not public")
        return allowed

    async def close(self) -> None:
        await self._dns.close()


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
