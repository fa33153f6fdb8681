"""E-mail addresses, telephone numbers and IP addresses: each becomes a word that stands for it (`masks`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cpt_ray.masks import masked
from cpt_ray.web.filters import Document, Filter


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
        title, text = (masked(one, self.mask)[0] for one in (document.title, document.text))
        return document._replace(title=title, text=text)
