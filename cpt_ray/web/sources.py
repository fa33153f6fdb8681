"""What `archive=` names: archives in a folder, in a list of paths, or chosen by an index, here or on a web server."""

from __future__ import annotations

import gzip
import posixpath
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from cpt_ray.artifacts.adopted import is_artifact
from cpt_ray.artifacts.places import locate, reaching
from cpt_ray.errors import UserError
from cpt_ray.web.archive import endings
from cpt_ray.web.index import is_index
from cpt_ray.web.remote import Remote, base_name, host_of, is_remote, opened

LISTS = (".paths", ".paths.gz")
_LONGEST_LIST = 256 << 20


class Sources(NamedTuple):
    """Paths of the archives, or of the index that says which of their records to read; `base` is what names in an index
    are relative to."""

    files: list[str]
    by_index: bool
    base: str


def find_sources(archive: str, base: str, remote: Remote) -> Sources:
    """Look at what is there; UserError where it holds neither archives nor an index.

    Of a folder, files whose names end as archives' do; of a list (`warc.paths.gz`, `wet.paths.gz`, `cc-index-table.paths.gz`)
    those it names, relative to `base`, by default the root of the list's server or its folder.
    """
    if is_remote(archive):
        host_of(archive)
    base = base or _root(archive)
    if base_name(archive).endswith(LISTS):
        names = [join(base, line) for line in _lines(archive, remote)]
    elif is_remote(archive):
        names = [archive]
    else:
        fs, root = locate(archive)
        with reaching(f"archive={archive}"):
            named = sorted(fs.find(root)) if not any(mark in archive for mark in "*?[") else sorted(fs.glob(root))
        names = [fs.unstrip_protocol(name) if "://" in archive else name for name in named]
    # Common Crawl's columnar index has subsets beside the pages: robots.txt, and what was no success.
    index = [name for name in names if is_index(name) and "/subset=" not in name.replace("/subset=warc/", "/")]
    archives = [name for name in names if base_name(name).endswith(endings())]
    fix = "give a crawl artifact, a folder of archives, a list as warc.paths.gz, or an index"
    if not archives and not index:
        raise UserError("no WARC, WET or ARC files here", where=f"archive={archive}", fix=fix)
    if not archives and not is_remote(archive) and is_artifact(archive):
        raise UserError("these are rows of an artifact, and no archives", where=f"archive={archive}", fix=fix)
    return Sources(sorted(archives or index), not archives, base)


def join(base: str, name: str) -> str:
    """The path of a file by its name in a list or an index."""
    if "://" in name or name.startswith("/"):
        return name
    return urljoin(base, name) if is_remote(base) else posixpath.join(base, name)


def _root(path: str) -> str:
    if is_remote(path):
        parts = urlsplit(path)
        return f"{parts.scheme}://{parts.netloc}/"
    return posixpath.dirname(path)


def _lines(path: str, remote: Remote) -> list[str]:
    try:
        with opened(path, remote) as source:
            data = source.read(_LONGEST_LIST)
        text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError) as error:
        raise UserError(f"the list cannot be read: {error}", where=f"archive={path}", fix="check the path") from None
    return [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
