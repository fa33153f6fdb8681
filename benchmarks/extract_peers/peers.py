"""Other extractors over the same pages, in the environment of the peers: `python peers.py PAGES.json RESULT.json`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata


def trafilatura_with(**options: bool) -> Callable[[str], str | None]:
    import trafilatura

    return lambda html: trafilatura.extract(html, include_comments=False, **options)


def resiliparse(html: str) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    return str(extract_plain_text(html, main_content=True))


def readability(html: str) -> str:
    import lxml.html
    from readability import Document

    return str(lxml.html.fromstring(Document(html).summary()).text_content())


def justext(html: str) -> str:
    import justext as package

    paragraphs = package.justext(html, package.get_stoplist("English"))
    return "\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)


PEERS: dict[str, tuple[str, Callable[[str], str | None]]] = {
    "trafilatura": ("trafilatura", trafilatura_with()),
    "trafilatura fast": ("trafilatura", trafilatura_with(fast=True)),
    "trafilatura precision": ("trafilatura", trafilatura_with(favor_precision=True)),
    "resiliparse": ("resiliparse", resiliparse),
    "readability-lxml": ("readability-lxml", readability),
    "jusText": ("jusText", justext),
}


def main(pages_file: str, result_file: str) -> None:
    with open(pages_file) as source:
        pages: dict[str, list[str]] = json.load(source)
    found = {}
    for name, (package, extract) in PEERS.items():
        extract(pages["wcxb"][0])  # what is loaded once is not counted
        entry: dict[str, object] = {"version": metadata.version(package)}
        for data, htmls in pages.items():
            texts = []
            started = time.process_time()
            for html in htmls:
                try:
                    texts.append(extract(html) or "")
                except Exception:  # noqa: BLE001 a page that an extractor cannot do counts as one without text
                    texts.append("")
            entry[data] = {"seconds": time.process_time() - started, "texts": texts}
        found[name] = entry
    with open(result_file, "w") as sink:
        json.dump(found, sink)


if __name__ == "__main__":
    main(*sys.argv[1:])
