"""Pages of listed domains and addresses: adult, spam, malware ... in the layout of the lists of the University of Toulouse
(UT1, https://dsi.ut-capitole.fr/blacklists/), which other lists for proxies share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from cpt_ray.errors import UserError
from cpt_ray.web.filters import Document, Filter, state

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FILES = ("domains", "urls")


class Ut1(Filter):
    """Drop a page, as `listed_<category>`, whose host or address a list has.

    A folder for each category holds `domains`, a host a line that stands for all hosts below it, and `urls`, an address
    a line without scheme and `www.` that stands for all paths below it; one of the two may be missing."""

    kind: Literal["ut1"] = "ut1"
    folder: str = Field(description="holds a folder for each category; on a cluster every machine has it at this path")
    categories: tuple[str, ...] = Field(min_length=1, description="folders that count, such as adult, phishing")

    @field_validator("categories")
    @classmethod
    def _names(cls, categories: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in categories if not name.replace("_", "").replace("-", "").isalnum()]:
            raise ValueError(f"no category: {wrong[0]!r}; give names of folders, such as adult")
        return categories

    def files(self) -> list[Path]:
        return [path for category in self.categories for path in self._of(category)]

    def result(self, *besides: str) -> dict[str, object]:
        return super().result("folder", *besides)

    def reason(self, document: Document) -> str | None:
        parts = urlsplit(document.url)
        host = parts.hostname or ""
        for category in self.categories:
            for path in self._of(category):
                known = _listed(str(path), *state(path))
                names = _domains(host) if path.name == "domains" else _addresses(host, parts.path, parts.query)
                if _any_in(known, names):
                    return f"listed_{category}"
        return None

    def _of(self, category: str) -> list[Path]:
        found = [path for name in _FILES if (path := Path(self.folder, category, name)).is_file()]
        if not found:
            fix = "give the folder that the lists were unpacked into, and its folders' names"
            raise UserError(f"no list {category!r}: neither domains nor urls", where=self.folder, fix=fix)
        return found


def _domains(host: str) -> Iterator[str]:
    """A host and all that it lies below, an address as it is."""
    labels = host.split(".")
    last = 1 if host.replace(".", "").isdigit() or ":" in host else len(labels)
    return (".".join(labels[at:]) for at in range(last))


def _addresses(host: str, path: str, query: str) -> Iterator[str]:
    """An address with its query, without, and all that it lies below, down to the host's first folder."""
    host = host.removeprefix("www.")
    if query:
        yield f"{host}{path}?{query}"
    names = path.strip("/").split("/")
    for count in range(len(names), 0, -1):
        if names[count - 1]:
            yield f"{host}/{'/'.join(names[:count])}"


@lru_cache(maxsize=16)
def _listed(path: str, changed: int, size: int) -> npt.NDArray[np.uint64]:
    """The lines of a list as sorted xxh3_64: millions take 8 bytes each; `changed` and `size` tell its states apart."""
    import numpy as np
    import xxhash

    with open(path, "rb") as source:
        lines = (line.strip().strip(b"/").lower() for line in source)
        return np.unique(np.fromiter((xxhash.xxh3_64_intdigest(line) for line in lines if line), np.uint64))


def _any_in(known: npt.NDArray[np.uint64], names: Iterator[str]) -> bool:
    import numpy as np
    import xxhash

    hashes = np.array([xxhash.xxh3_64_intdigest(name.lower().encode("utf-8", "replace")) for name in names], np.uint64)
    at = np.searchsorted(known, hashes)
    return bool((known[np.minimum(at, len(known) - 1)] == hashes).any()) if len(known) else False
