"""Scrapy over a site, for benchmarks/crawl.py: prints {"pages"} as JSON. Its pages go to one WARC file (warcio, gzip by
record), as ours do, or nowhere where no file is given.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import scrapy
from scrapy.crawler import CrawlerProcess
from scrapy.linkextractors import LinkExtractor
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter


class Site(scrapy.Spider):
    name = "site"
    pages = 0

    def __init__(self, url: str, archive: str) -> None:
        super().__init__()
        self.start_urls = [url]
        self.links = LinkExtractor(allow=url)
        sink = Path(archive).open("wb") if archive else None  # noqa: SIM115 - as long as the process
        self.writer = WARCWriter(sink, gzip=True) if sink is not None else None

    def parse(self, response: Any) -> Iterator[Any]:
        Site.pages += 1
        if self.writer is not None:
            lines = [(k.decode("latin-1"), v.decode("latin-1")) for k, vs in response.headers.items() for v in vs]
            head = StatusAndHeaders(f"{response.status} OK", lines, protocol="HTTP/1.1")
            body = io.BytesIO(response.body)
            self.writer.write_record(self.writer.create_warc_record(response.url, "response", body, http_headers=head))
        for link in self.links.extract_links(response):
            yield response.follow(link)


def main(url: str, at_once: int, archive: str) -> None:
    settings = {
        "ROBOTSTXT_OBEY": True, "DOWNLOAD_DELAY": 0, "CONCURRENT_REQUESTS": at_once,
        "CONCURRENT_REQUESTS_PER_DOMAIN": at_once, "AUTOTHROTTLE_ENABLED": False, "COOKIES_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False, "LOG_LEVEL": "ERROR", "HTTPCACHE_ENABLED": False,
    }  # fmt: skip
    process = CrawlerProcess(settings)
    process.crawl(Site, url=url, archive=archive)
    process.start()
    print(json.dumps({"pages": Site.pages}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
