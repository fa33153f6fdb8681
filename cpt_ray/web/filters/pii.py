"""E-mail addresses, telephone numbers and IP addresses: each becomes a word that stands for it."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

from pydantic import Field

from cpt_ray.web.filters import Document, Filter

_EMAIL = re.compile(
    r"(?<![\w.+%-])[^\W_][\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@]|\.\w)"
)
_IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:]|\.\d)")
# In international form, or as North America writes them: a number alone may be anything.
_PHONE = re.compile(
    r"(?<![\w+./-])(?:\+[1-9](?:[ .()\u00a0-]{0,2}\d){6,14}|\([2-9]\d\d\)[ .-]?[2-9]\d\d[ .-]\d{4}"
    r"|[2-9]\d\d([.-])[2-9]\d\d\1\d{4})(?!\w|[.-]\d)"
)


class Pii(Filter):
    """Mask e-mail addresses, telephone numbers and public IP addresses in title and text: <email>, <phone>, <ip>.

    Telephone numbers are known in international form (+49 30 123456) and as North America writes them. Nothing is
    dropped; filters that follow in the list see the masked text."""

    kind: Literal["pii"] = "pii"
    mask: tuple[Literal["email", "phone", "ip"], ...] = Field(
        default=("email", "phone", "ip"), min_length=1, description="what is masked"
    )

    def reason(self, document: Document) -> str | None:
        return None

    def changed(self, document: Document) -> Document:
        return document._replace(title=self._masked(document.title), text=self._masked(document.text))

    def _masked(self, text: str) -> str:
        if "email" in self.mask and "@" in text:
            text = _EMAIL.sub("<email>", text)
        if "ip" in self.mask:
            text = _IP.sub(lambda found: "<ip>" if _is_public(found[0]) else found[0], text)
        if "phone" in self.mask:
            text = _PHONE.sub(lambda found: found[0] if _is_number(found[0]) else "<phone>", text)
        return text


def _is_public(text: str) -> bool:
    """Whether it is an address that others reach: not of a clock, a version, this machine or a network at home."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_number(text: str) -> bool:
    """Whether it is a plain number with a sign and a decimal point."""
    return re.fullmatch(r"\+\d+\.\d+", text) is not None
