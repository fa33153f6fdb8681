"""Options of the crawl, of extraction and of the quality rules."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from cpt_ray.kinds import one_of
from cpt_ray.options import How, Options
from cpt_ray.web.filters import identity

LANGUAGES = frozenset(
    """
    ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv
    fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky
    la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh
    se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu zxx
    """.split()  # noqa: SIM905
)
"""What the language model tells apart (py3langid 0.4.0): ISO 639-1 codes, of three letters where there is none."""


class QualityOptions(Options):
    """Bounds outside of which a document is dropped; shares are between 0 and 1."""

    min_words: int = Field(default=30, ge=0, description="too_short: fewer words")
    max_words: int = Field(default=200_000, ge=1, description="too_long: more words")
    min_word_length: float = Field(default=2.5, ge=0, description="word_length: mean characters per word below this")
    max_word_length: float = Field(default=14.0, ge=0, description="word_length: mean characters per word above this")
    max_symbols: float = Field(default=0.1, ge=0, description="symbols: hash signs and ellipses per word above this")
    min_alphabetic: float = Field(
        default=0.6, ge=0, le=1, description="not_words: share of words with a letter below this"
    )
    max_bullets: float = Field(
        default=0.9, ge=0, le=1, description="bullets: share of lines that begin with a bullet above this"
    )
    max_ellipses: float = Field(
        default=0.3, ge=0, le=1, description="ellipses: share of lines that end in an ellipsis above this"
    )
    max_repeated_lines: float = Field(
        default=0.5, ge=0, le=1, description="repeated_lines: share of characters in lines that came before above this"
    )


class ExtractOptions(Options):
    """How pages become documents."""

    group_pattern: str = Field(
        default="", description="regular expression on the URL whose one group is the split group; empty: the host"
    )
    languages: tuple[str, ...] = Field(
        default=("en",), description="ISO 639-1 codes of the languages kept; empty keeps all"
    )
    min_language_score: float = Field(
        default=0.5, ge=0, le=1, description="a document whose language is less certain is dropped"
    )
    max_html_bytes: int = Field(default=2_000_000, ge=1, description="a larger page is dropped unread")
    obey_noindex: bool = Field(
        default=False, description="drop pages that ask search engines not to index them (meta robots, X-Robots-Tag)"
    )
    keep_truncated: bool = Field(
        default=True,
        description="read pages of which the crawler kept the beginning alone (WARC-Truncated); false: cut_by_crawler",
    )
    quality: QualityOptions = Field(default=QualityOptions(), description="quality rules")
    filters: tuple[one_of("cpt_ray.web.filters"), ...] = Field(  # type: ignore[valid-type]
        (),
        description="what else drops or changes a document, by kind, as in {kind: url, patterns: [/tag/]}; after the"
        " quality rules",
    )

    def result(self, *besides: str) -> dict[str, Any]:
        """As of all options, with the content of the filters' files; without filters there is no such key, so that what
        was made before there were any is still known."""
        own = super().result("filters", *besides)
        return {**own, "filters": identity(self.filters)} if self.filters and "filters" not in besides else own

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        chosen = tuple(language.strip().lower() for language in languages)
        if unknown := sorted(set(chosen) - LANGUAGES):
            raise ValueError(f"no language code: {', '.join(unknown)}; known are {' '.join(sorted(LANGUAGES))}")
        return chosen

    @field_validator("group_pattern")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if pattern and groups != 1:
            raise ValueError(f"must have exactly one group, has {groups}")
        return pattern


class ClassifierOptions(Options):
    """How a classifier of quality is trained."""

    max_chars: int = Field(4000, ge=1, description="characters that are looked at of a text, from its start")
    buckets: int = Field(
        1 << 18, ge=1 << 8, le=1 << 26, description="weights that words and pairs of words are hashed to"
    )
    strength: float = Field(30.0, gt=0, description="how closely the examples are followed: 1 / L2 regularisation")


class NetworkOptions(Options):
    """How files on web servers are read; nothing of it decides what comes out."""

    allow_private: How[tuple[str, ...]] = Field(
        default=(), description="networks (CIDR) that are not public but may be read from, such as 127.0.0.0/8"
    )
    timeout: How[float] = Field(default=60.0, gt=0, description="seconds to connect, and to wait for the next bytes")
    retries: How[int] = Field(default=5, ge=0, description="attempts after the first, where a server or network fails")
    backoff: How[float] = Field(
        default=1.0, ge=0, description="pause before the second attempt in seconds; then doubled"
    )
    max_wait: How[float] = Field(default=120.0, ge=0, description="longest pause in seconds, Retry-After included")


class SelectOptions(Options):
    """Which records of an index (Common Crawl's CDX, CDXJ or columnar one) are read."""

    domains: tuple[str, ...] = Field(default=(), description="domains, each with all hosts below it; empty: every host")
    languages: tuple[str, ...] = Field(
        default=(), description="languages as the index has them (ISO 639-3, as eng): one of those listed; empty: any"
    )
    mime: tuple[str, ...] = Field(
        default=("text/html", "application/xhtml+xml"), description="media types, detected or else declared; empty: any"
    )
    status: tuple[int, ...] = Field(default=(200,), description="HTTP status codes; empty: any")
    count: int = Field(
        default=100_000, ge=1, description="records at most: the first in the order of their URLs' hashes"
    )
    base: str = Field(
        default="", description="what file names in the index are relative to; empty: the root of the index's server"
    )

    @field_validator("domains")
    @classmethod
    def _plain_domains(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        chosen = tuple(domain.strip().strip(".").lower() for domain in domains)
        if wrong := [domain for domain in chosen if not domain or "/" in domain or ":" in domain]:
            raise ValueError(f"no domain: {wrong[0]!r}; give example.org, without scheme and path")
        return chosen


class CrawlOptions(Options):
    """What to crawl, and how politely."""

    seeds: tuple[str, ...] = Field(default=(), description="URLs to start from")
    previous: How[tuple[str, ...]] = Field(
        default=(),
        description="earlier crawls: their pages are asked for only if they are others now (ETag, Last-Modified), and links"
        " of those that are not followed as they were; not_modified, a revisit record",
    )
    contact: How[str] = Field(
        default="", description="e-mail or URL by which a site's owner reaches you; goes into the User-Agent"
    )
    scope: Literal["host", "prefix", "any"] = Field(
        default="host",
        description="stay on the seeds' hosts (with or without www.), in their folders, or go anywhere",
    )
    sitemaps: bool = Field(default=True, description="read the sitemaps that robots.txt names, or else /sitemap.xml")
    max_sitemaps: int = Field(default=1000, ge=0, description="sitemap files read at most")
    max_pages: int = Field(
        default=10_000, ge=1, description="pages requested at most: whole levels, then the first by URL"
    )
    max_depth: int = Field(default=20, ge=0, description="links followed from a seed or sitemap page")
    max_queries: int = Field(default=1000, ge=1, description="URLs that differ in their query alone at most")
    max_redirects: int = Field(default=5, ge=0, description="redirects followed in a row")
    max_bytes: int = Field(default=5_000_000, ge=1, description="a longer body is left out (as sent, and unpacked)")
    timeout: How[float] = Field(
        default=30.0, gt=0, description="seconds for one request, from connecting to the last byte"
    )
    retries: How[int] = Field(
        default=3,
        ge=0,
        description="attempts after the first on 408, 429, 500, 503 and their like, timeouts, lost connections",
    )
    backoff: How[float] = Field(
        default=1.0,
        ge=0,
        description="pause of a host after its first failure in seconds; doubled for each further one",
    )
    max_wait: How[float] = Field(
        default=120.0, ge=0, description="longest pause in seconds; a host whose Retry-After is longer is given up"
    )
    delay: How[float] = Field(
        default=1.0,
        ge=0,
        description="seconds from one answer of a host to the next request, where robots.txt states no Crawl-delay",
    )
    max_delay: float = Field(default=60.0, ge=0, description="a host whose Crawl-delay is longer is not crawled")
    per_host: How[int] = Field(default=2, ge=1, description="requests under way to one host at most")
    concurrency: How[int] = Field(default=32, ge=1, description="requests under way at most")
    shards: How[int] = Field(
        default=1,
        ge=1,
        description="processes on Ray among which hosts are divided; 1: this process alone, without Ray",
    )
    allow_private: tuple[str, ...] = Field(
        default=(), description="networks (CIDR) that are not public but may be contacted"
    )
    segment_records: int = Field(default=1_000, ge=1, description="URLs in a WARC segment at most")
    segment_bytes: int = Field(default=250_000_000, ge=1, description="a WARC segment is closed at this size in bytes")
