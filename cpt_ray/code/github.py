"""Repositories by name, `github:owner/name`: where they are cloned from, and what GitHub's API says of them.

It is asked only with a token: stars, forks, default branch, licence, and where a renamed repository is now. Questions go
one after the other, and wait as the answers ask for (docs.github.com/rest, best practices). Answers are kept, so that what
is resumed sees the same; one of more than FRESH seconds is asked for again by its ETag, which costs nothing of the quota.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import urllib3

from cpt_ray.addresses import Permission, connections, host_and_port, is_loopback
from cpt_ray.artifacts import places
from cpt_ray.code.options import CloneOptions
from cpt_ray.errors import UserError

logger = logging.getLogger(__name__)

SCHEME = "github:"
FRESH = 7 * 24 * 3600.0
MOST_WAIT = 3700.0
"""Seconds: the quota is of an hour."""
MOST_REDIRECTS = 3
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
_VARIABLE = "GITHUB_TOKEN"


class Listing(NamedTuple):
    """What is known of a repository; `branch` is its default one, `licence` SPDX, "" where either is not known."""

    url: str
    branch: str = ""
    stars: int | None = None
    forks: int | None = None
    licence: str = ""


def _name(path: str) -> str:
    return path.removeprefix(SCHEME).strip("/").removesuffix(".git")


def unasked(path: str) -> Listing:
    """What is known of `github:owner/name` without the API."""
    return Listing(f"https://github.com/{_name(path)}.git")


@contextmanager
def looked_up(path: str, options: CloneOptions) -> Iterator[GitHub]:
    """The API with the answers that are kept at `path`, where new ones are written at the end."""
    fs, target = places.locate(path)
    held = places.read(fs, target)
    hub = GitHub(options, json.loads(held[0]) if held else None)
    before = dict(hub.known)
    try:
        yield hub
    finally:
        if hub.known != before:
            if places.renames(fs):
                fs.makedirs(posixpath.dirname(target), exist_ok=True)
            places.write(fs, target, json.dumps(hub.known, indent=1, sort_keys=True).encode())


class GitHub:
    """The API, with the answers that are known: by name `{"etag", "at", "listing"}`, which JSON can hold."""

    def __init__(self, options: CloneOptions, known: Mapping[str, Any] | None = None) -> None:
        self.known: dict[str, Any] = dict(known or {})
        self._options = options
        self._token = os.environ.get(options.tokens.get("github.com", _VARIABLE), "")
        self._refused: UserError | None = None
        self._pool: urllib3.HTTPConnectionPool | None = None

    def listing(self, path: str) -> Listing:
        """Of `github:owner/name`. UserError where there is no such repository, or GitHub does not answer."""
        name = _name(path)
        if not _NAME.fullmatch(name):
            raise UserError("no name of a repository", where=path, fix="give github:owner/name")
        if not self._token:
            return unasked(path)
        kept = self.known.get(name.lower(), {})
        if kept and time.time() - kept["at"] < FRESH:
            return Listing(**kept["listing"])
        status, headers, body = self._ask(
            f"{self._options.github.rstrip('/')}/repos/{name}", kept.get("etag", ""), path
        )
        if status != 304:
            kept = {"etag": headers.get("etag", ""), "listing": _listing(body, path)._asdict()}
        self.known[name.lower()] = {**kept, "at": time.time()}
        return Listing(**kept["listing"])

    def _ask(self, url: str, etag: str, path: str) -> tuple[int, Mapping[str, str], bytes]:
        """An answer of 200 or 304, with the redirections of renamed repositories behind it."""
        if self._refused is not None:
            raise self._refused
        tries = moves = 0
        while True:
            status, headers, body = self._once(url, etag)
            if status in (200, 304):
                return status, headers, body
            if status in (301, 302, 307, 308) and moves < MOST_REDIRECTS:
                location = headers.get("location", "")
                there = _moved(url, location)
                if there is None:
                    raise UserError("the API leads elsewhere", where=path, fix=f"look at {location}")
                url, moves = there, moves + 1
                continue
            if status == 401:
                self._refused = UserError(
                    "GitHub does not accept the token",
                    where=path,
                    fix=f"renew it, or unset {_VARIABLE}: see clone.tokens",
                )
                raise self._refused
            wait = _wait(status, headers, body, tries)
            tries += 1
            if wait is None or tries >= max(2, self._options.tries):
                what = (
                    "there is no such repository"
                    if status in (404, 410, 451)
                    else f"GitHub answers {status or 'nothing'}"
                )
                raise UserError(
                    what, where=path, fix="look whether it is still there, and whether the token may see it"
                )
            if wait > MOST_WAIT:
                raise UserError(f"GitHub asks to wait for {wait / 60:.0f} minutes", where=path, fix="run again then")
            logger.warning("GitHub asks to wait for %.0f s (%s)", wait, path)
            time.sleep(wait)

    def _once(self, url: str, etag: str) -> tuple[int, Mapping[str, str], bytes]:
        """Status (0: nothing came), headers by lower-case names, body."""
        pool, parts = self._connected(), urlsplit(url)
        headers = {
            "Host": parts.netloc,
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token}",
            "User-Agent": "cpt-ray",
            "X-GitHub-Api-Version": "2022-11-28",
            **({"If-None-Match": etag} if etag else {}),
        }
        try:
            answer = pool.request(
                "GET", parts.path, headers=headers, redirect=False, retries=False, assert_same_host=False
            )
        except urllib3.exceptions.HTTPError:
            return 0, {}, b""
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.data

    def _connected(self) -> urllib3.HTTPConnectionPool:
        """Connections to the API, which no redirection leaves. UserError where the option is no URL of one."""
        if self._pool is None:
            url = self._options.github
            (host, port), scheme = host_and_port(url), url.partition("://")[0].lower()
            if scheme != "https" and not is_loopback(host):
                raise UserError("a token is sent by https alone", where=f"clone.github: {url}", fix="give https://...")
            if not host or not port:
                raise UserError("no URL of an API", where=f"clone.github: {url}", fix="give https://...")
            self._pool = connections(
                scheme,
                host,
                port,
                Permission(self._options.allow_private),
                url=url,
                option="clone.allow_private",
                timeout=30,
            )
        return self._pool


def _moved(url: str, location: str) -> str | None:
    """Where a redirection leads; None where that is not the same server."""
    try:
        there = urljoin(url, location)
        return there if urlsplit(there)[:2] == urlsplit(url)[:2] else None
    except ValueError:
        return None


def _wait(status: int, headers: Mapping[str, str], body: bytes, tries: int) -> float | None:
    """Seconds until it may be asked again; None where that changes nothing."""
    if status == 0 or status >= 500:
        return float(2**tries)
    if status not in (403, 429):
        return None
    if headers.get("retry-after", "").isdigit():
        return float(headers["retry-after"])
    if headers.get("x-ratelimit-remaining") == "0" and headers.get("x-ratelimit-reset", "").isdigit():
        return max(0.0, int(headers["x-ratelimit-reset"]) - time.time()) + 1
    return 60.0 * 2**tries if status == 429 or b"rate limit" in body.lower() else None


def _listing(body: bytes, path: str) -> Listing:
    try:
        said = json.loads(body)
        licence = (said.get("license") or {}).get("spdx_id") or ""
        return Listing(
            url=str(said["clone_url"]),
            branch=str(said.get("default_branch") or ""),
            stars=int(said["stargazers_count"]),
            forks=int(said["forks_count"]),
            licence="" if licence == "NOASSERTION" else str(licence),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError("GitHub's answer is none about a repository", where=path, fix="look at clone.github") from None
