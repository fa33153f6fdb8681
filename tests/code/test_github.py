"""Repositories by name: GitHub's API as its documentation describes it, on loopback."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from cpt_ray.code import github
from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.github import GitHub, Listing, looked_up
from cpt_ray.code.options import CloneOptions, MineOptions
from cpt_ray.errors import UserError
from pipelines import code_pairs
from pipelines.options.code_pairs import RepositoryOptions

REPOSITORY = {
    "id": 1296269,
    "full_name": "octo/Hello",
    "private": False,
    "fork": False,
    "clone_url": "https://github.com/octo/Hello.git",
    "default_branch": "trunk",
    "stargazers_count": 80,
    "watchers_count": 80,
    "forks_count": 9,
    "license": {"key": "mit", "name": "MIT License", "spdx_id": "MIT", "node_id": "MDc6TGljZW5zZW1pdA=="},
}
Answer = tuple[int, dict[str, str], Any]


class Api(http.server.BaseHTTPRequestHandler):
    """Answers from a script, by path; the last of a path's answers stays."""

    script: ClassVar[dict[str, list[Answer]]] = {}
    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        Api.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        answers = Api.script.get(self.path, [(404, {}, {"message": "Not Found"})])
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if headers.get("ETag") and headers["ETag"] == self.headers.get("If-None-Match"):
            status, body = 304, None
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloneOptions]:
    monkeypatch.setenv("GITHUB_TOKEN", "t0ken")
    Api.script, Api.asked = {"/repos/octo/Hello": [(200, {"ETag": '"one"'}, REPOSITORY)]}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        yield CloneOptions(github=f"http://127.0.0.1:{serving.server_port}", allow_private=("127.0.0.0/8",))
        serving.shutdown()
        thread.join()


NOW = 1_800_000_000


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, without waiting, by a clock that stands still; other threads' clock is their own."""
    found: list[float] = []
    monkeypatch.setattr(github, "time", SimpleNamespace(sleep=found.append, time=lambda: float(NOW)))
    return found


FOUND = Listing("https://github.com/octo/Hello.git", "trunk", 80, 9, "MIT")


def test_a_repository_is_asked_for_by_its_name_and_with_the_token(options: CloneOptions) -> None:
    assert GitHub(options).listing("github:octo/Hello") == FOUND
    ((path, headers),) = Api.asked
    assert path == "/repos/octo/Hello"
    assert headers["authorization"] == "Bearer t0ken"
    assert headers["accept"] == "application/vnd.github+json"


def test_without_a_token_nothing_is_asked(options: CloneOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_TOKEN")
    assert GitHub(options).listing("github:octo/Hello") == Listing("https://github.com/octo/Hello.git")
    assert Api.asked == []


def test_the_variable_is_the_one_that_clones_use(options: CloneOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "m1ne")
    GitHub(options.model_copy(update={"tokens": {"github.com": "MINE"}})).listing("github:octo/Hello")
    assert Api.asked[0][1]["authorization"] == "Bearer m1ne"


@pytest.mark.parametrize("url", ["http://api.example.org", "http://10.0.0.1", "http://localhost:1"])
def test_a_token_is_never_sent_without_encryption(options: CloneOptions, url: str) -> None:
    with pytest.raises(UserError, match="https alone"):
        GitHub(options.model_copy(update={"github": url})).listing("github:octo/Hello")


@pytest.mark.parametrize("url", ["https:///api", "https://[x", "https://h:99999", "ftp://127.0.0.1"])
def test_what_is_no_url_of_an_api_is_said(options: CloneOptions, url: str) -> None:
    with pytest.raises(UserError, match=r"no URL of an API|https alone") as caught:
        GitHub(options.model_copy(update={"github": url})).listing("github:octo/Hello")
    assert caught.value.where == f"clone.github: {url}"


def test_a_renamed_repository_is_followed_to_the_same_host_alone(options: CloneOptions) -> None:
    moved = {"message": "Moved Permanently", "url": f"{options.github}/repositories/1296269"}
    Api.script["/repos/octo/Old"] = [(301, {"Location": moved["url"]}, moved)]
    Api.script["/repositories/1296269"] = [(200, {}, REPOSITORY)]
    assert GitHub(options).listing("github:octo/Old") == FOUND
    for elsewhere in ("https://elsewhere.example/repositories/1", "http://[a/repositories/1"):
        Api.script["/repos/octo/Old"] = [(301, {"Location": elsewhere}, moved)]
        with pytest.raises(UserError, match="leads elsewhere"):
            GitHub(options).listing("github:octo/Old")
    Api.script["/repos/octo/Old"] = [(301, {"Location": "/repos/octo/Old"}, moved)]
    with pytest.raises(UserError, match="GitHub answers 301"):
        GitHub(options).listing("github:octo/Old")


@pytest.mark.parametrize("status", [404, 410, 451])
def test_one_that_is_gone_is_asked_for_once(options: CloneOptions, waits: list[float], status: int) -> None:
    Api.script["/repos/octo/gone"] = [(status, {}, {"message": "Not Found"})]
    with pytest.raises(UserError, match="no such repository"):
        GitHub(options).listing("github:octo/gone")
    assert (len(Api.asked), waits) == (1, [])


def test_a_token_that_is_not_accepted_is_shown_once(options: CloneOptions) -> None:
    Api.script["/repos/octo/Hello"] = [(401, {}, {"message": "Bad credentials"})]
    hub = GitHub(options)
    for _ in range(3):
        with pytest.raises(UserError, match="does not accept the token"):
            hub.listing("github:octo/Hello")
    assert len(Api.asked) == 1


PRIMARY = {"message": "API rate limit exceeded"}
SECONDARY = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (403, {"Retry-After": "17"}, SECONDARY, 17),
        (429, {"Retry-After": "17"}, SECONDARY, 17),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW + 30}"}, PRIMARY, 31),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW - 30}"}, PRIMARY, 1),
        (403, {"X-RateLimit-Remaining": "4000"}, SECONDARY, 60),
        (502, {}, {"message": "Server Error"}, 1),
    ],
)
def test_it_waits_as_long_as_the_answer_asks(
    options: CloneOptions, waits: list[float], status: int, headers: dict[str, str], body: Any, seconds: float
) -> None:
    Api.script["/repos/octo/Hello"] = [(status, headers, body), (200, {}, REPOSITORY)]
    assert GitHub(options).listing("github:octo/Hello") == FOUND
    assert waits == [seconds]


def test_what_waiting_does_not_mend_is_said(options: CloneOptions, waits: list[float]) -> None:
    Api.script["/repos/octo/Hello"] = [(403, {}, {"message": "Repository access blocked"})]
    with pytest.raises(UserError, match="GitHub answers 403"):
        GitHub(options).listing("github:octo/Hello")
    Api.script["/repos/octo/Hello"] = [(403, {"Retry-After": "9000"}, SECONDARY)]
    with pytest.raises(UserError, match="150 minutes"):
        GitHub(options).listing("github:octo/Hello")
    assert waits == []
    Api.script["/repos/octo/Hello"] = [(500, {}, {})]
    with pytest.raises(UserError, match="GitHub answers 500"):
        GitHub(options).listing("github:octo/Hello")
    assert len(waits) == options.tries - 1


@pytest.mark.parametrize("body", [[], {"message": "hello"}, {**REPOSITORY, "stargazers_count": None}, "x"])
def test_an_answer_about_something_else_is_no_listing(options: CloneOptions, body: Any) -> None:
    Api.script["/repos/octo/Hello"] = [(200, {}, body)]
    with pytest.raises(UserError, match="none about a repository"):
        GitHub(options).listing("github:octo/Hello")


@pytest.mark.parametrize("licence", [None, {"spdx_id": "NOASSERTION"}, {"spdx_id": None}])
def test_a_licence_that_github_does_not_know_is_none(options: CloneOptions, licence: Any) -> None:
    Api.script["/repos/octo/Hello"] = [(200, {}, {**REPOSITORY, "license": licence})]
    assert GitHub(options).listing("github:octo/Hello").licence == ""


@pytest.mark.parametrize("name", ["octo", "octo/a/b", "octo/../x", "/x", "octo/ x", "-o/x", "octo/x?y"])
def test_what_is_no_name_is_refused(options: CloneOptions, name: str) -> None:
    with pytest.raises(UserError, match="no name of a repository"):
        GitHub(options).listing(f"github:{name}")
    assert Api.asked == []


def test_answers_are_kept_and_asked_for_again_by_their_etag(
    options: CloneOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = str(tmp_path / "out" / "github.json")
    for _ in range(2):
        with looked_up(kept, options) as hub:
            assert hub.listing("github:octo/Hello") == FOUND
    assert len(Api.asked) == 1
    monkeypatch.setattr(github, "FRESH", -1.0)
    Api.script["/repos/octo/hello"] = Api.script["/repos/octo/Hello"]
    with looked_up(kept, options) as hub:
        assert hub.listing("github:octo/hello") == FOUND  # names are of any case
    assert Api.asked[-1][1]["if-none-match"] == '"one"'
    assert "t0ken" not in Path(kept).read_text()


def test_a_list_of_names_becomes_shards(options: CloneOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One repository by two names is mined once; one that is not there costs itself alone; rows have the stars."""
    (tmp_path / "list").write_text("github:octo/Hello\ngithub:octo/Old v1\ngithub:octo/gone\ngithub:octo/Again\n")
    Api.script["/repos/octo/Old"] = Api.script["/repos/octo/Again"] = [(200, {}, REPOSITORY)]
    asked: list[tuple[str, str]] = []

    def shards_of(path: str, revision: str, mine: Any, about: Any, clone: Any) -> list[dict[str, Any]]:
        asked.append((path, revision))
        return [{"repository": path, "commit": "c", "version": "c", **about}]

    monkeypatch.setattr(code_pairs, "shards_of", shards_of)
    found = [RepositoryOptions(path=one.path, commit=one.commit) for one in code_pairs.listed(str(tmp_path / "list"))]
    with pytest.raises(UserError, match="two repositories are one group"):
        code_pairs.repository_shards(found, MineOptions(), options)
    found[1] = found[1].model_copy(update={"group": "octo/Hello-1"})
    shards = code_pairs.repository_shards(found, MineOptions(), options)
    assert asked == [(FOUND.url, "refs/heads/trunk"), (FOUND.url, "v1")]
    assert [one["group"] for one in shards] == ["octo/Hello", "octo/Hello-1", "octo/gone"]
    assert shards[0]["listed"] == {"stars": 80, "forks": 9, "licence": "MIT"}
    assert shards[2]["problem"] == "there is no such repository"
    code = b'def first(x):\n    """Parses the first of the text."""\n    y = x\n    return y\n'
    (row,) = mine([Source("a.py", code)], Origin("o/one", "c", "MIT", 80, 9), MineOptions())[0].to_pylist()
    assert (row["stars"], row["forks"]) == (80, 9)
