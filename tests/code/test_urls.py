"""Repositories by their URL, from servers on loopback: git's own, by HTTP and by its own protocol."""

from __future__ import annotations

import glob
import http.server
import os
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from cpt_ray.code.options import CloneOptions, MineOptions
from cpt_ray.code.readers import url
from cpt_ray.code.repositories import mine_listed_shard, mine_repository_shard, shards_of
from cpt_ray.errors import UserError
from pipelines import code_pairs

OPTIONS = MineOptions()
LOOPBACK = ("127.0.0.0/8", "::1/128")
CLONE = CloneOptions(allow_private=LOOPBACK, pause=0, tries=2)
CODE = 'def {name}(x):\n    """Parses {name} from the text."""\n    y = x\n    return y\n'


class Backend(http.server.BaseHTTPRequestHandler):
    """`git http-backend` as CGI; counts what it sends, and fails as often as it is told to."""

    root: ClassVar[str] = ""
    sent: ClassVar[int] = 0
    failures: ClassVar[int] = 0
    authorizations: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        type(self).authorizations.append(self.headers.get("Authorization"))
        if path.startswith("/moved/"):
            self.send_response(301)
            self.send_header("Location", self.path.replace("/moved/", "/"))
            self.end_headers()
            return
        if Backend.failures:
            type(self).failures -= 1
            self.send_error(503)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        Backend.sent += len(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


def git(at: Path, *words: str) -> str:
    named = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *named, *words], cwd=at, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`o/one.git`, with a past and with bytes that nobody mines, and `o/two.git`."""
    root = tmp_path_factory.mktemp("served")
    for name in ("one", "two"):
        work = root / "work" / name
        work.mkdir(parents=True)
        git(work, "init", "-q", "-b", "main")
        (work / "a.py").write_text(CODE.format(name="first"))
        (work / "LICENSE").write_text("All of this is mine.")
        (work / "data.bin").write_bytes(os.urandom(200_000))
        git(work, "add", "-A")
        git(work, "commit", "-qm", "one")
        git(work, "tag", "-am", "v1", "v1")
        (work / "a.py").write_text(CODE.format(name=name))
        (work / "data.bin").write_bytes(os.urandom(200_000))
        git(work, "commit", "-qam", "two")
        bare = root / "o" / f"{name}.git"
        git(root, "clone", "-q", "--bare", str(work), str(bare))
        git(bare, "config", "uploadpack.allowFilter", "true")
        (bare / "git-daemon-export-ok").touch()
    return root


@pytest.fixture
def server(root: Path) -> Iterator[str]:
    Backend.root, Backend.sent, Backend.failures, Backend.authorizations = str(root), 0, 0, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def shard(address: str, commit: str = "HEAD", **clone: Any) -> dict[str, Any]:
    about = {"group": "o/one", "licence": ""}
    (found,) = shards_of(address, commit, OPTIONS, about, CLONE.model_copy(update=clone))
    return found


def test_a_url_gives_what_the_repository_gives_and_fetches_no_more_than_that(root: Path, server: str) -> None:
    here, counted = mine_repository_shard({"repository": str(root / "o" / "one.git"), "group": "o/one"}, OPTIONS)
    there, ledger = mine_repository_shard(shard(f"{server}/o/one.git"), OPTIONS)
    assert there.equals(here)
    assert here["name"].to_pylist() == ["one"]
    assert ledger == counted
    assert Backend.sent < 20_000  # of 400,000 that a full clone brings
    assert not glob.glob(os.path.join(tempfile.gettempdir(), "cpt-ray-clone-*"))


@pytest.mark.parametrize("commit", ["v1", "refs/tags/v1", "sha"])
def test_a_revision_is_a_tag_a_branch_or_a_commit(root: Path, server: str, commit: str) -> None:
    first = git(root / "o" / "one.git", "rev-parse", "v1^{commit}")
    found = shard(f"{server}/o/one.git", first if commit == "sha" else commit)
    assert found["commit"] == first
    table, _ = mine_repository_shard(found, OPTIONS)
    assert table["name"].to_pylist() == ["first"]


def test_a_server_without_filters_sends_all_at_once(root: Path, server: str) -> None:
    git(root / "o" / "two.git", "config", "uploadpack.allowFilter", "false")
    table, _ = mine_repository_shard(shard(f"{server}/o/two.git"), OPTIONS)
    assert table["name"].to_pylist() == ["two"]


class Daemon(socketserver.BaseRequestHandler):
    """`git daemon` for one connection, on a port that nobody else can have taken."""

    def handle(self) -> None:
        words = ["daemon", "--inetd", f"--base-path={Backend.root}", Backend.root]
        subprocess.run(["git", *words], stdin=self.request, stdout=self.request, stderr=subprocess.DEVNULL, check=False)


def test_the_daemon_is_read_too(root: Path) -> None:
    Backend.root = str(root)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Daemon) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        table, _ = mine_repository_shard(shard(f"git://127.0.0.1:{serving.server_address[1]}/o/one.git"), OPTIONS)
        serving.shutdown()
        thread.join()
    assert table["name"].to_pylist() == ["one"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "0", "[::ffff:127.0.0.1]"]
)
def test_addresses_that_are_not_public_are_refused(host: str) -> None:
    """Before anything is sent."""
    for scheme in ("http", "https", "git"):
        with pytest.raises(UserError, match=r"no public address|no address"):
            shards_of(f"{scheme}://{host}/o/one.git", "HEAD", OPTIONS, {})


@pytest.mark.parametrize(
    "address",
    [
        *("file:///tmp/x", "ext::sh -c true://x", "ssh://h/x", "http://u:p@h/x", "https:///x", "http://h:99999/"),
        *("https://[h/x", "https://a..b/x"),
    ],
)
def test_what_is_no_url_to_clone_from_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="no URL to clone from"):
        shards_of(address, "HEAD", OPTIONS, {})


def test_a_redirection_is_not_followed(server: str) -> None:
    """It could lead to an address that was not looked at."""
    with pytest.raises(UserError, match="cannot fetch"):
        shard(f"{server}/moved/o/one.git")


def test_a_server_that_fails_once_is_asked_again(server: str) -> None:
    Backend.failures = 1
    assert shard(f"{server}/o/one.git")["commit"]
    Backend.failures = 2
    with pytest.raises(UserError, match="cannot fetch"):
        shard(f"{server}/o/one.git")


REFUSED = "fatal: unable to access '{url}/': The requested URL returned error: {status}"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:40135/o/one.git",
        "http://127.0.0.1:30404/redirect/Authentication.git",
        "https://redirect.example:443/403.git",
        "https://example.org:443/o/error: 404.git",
    ],
)
def test_what_the_address_holds_is_no_refusal(address: str) -> None:
    """A port 40135 was read as a 401, and a server that failed once was not asked again."""
    for status in (429, 500, 502, 503, 504):
        assert not url._is_for_good(REFUSED.format(url=address, status=status), address)
    unreached = f"fatal: unable to access '{address}/': Failed to connect to {urlsplit(address).hostname}"
    assert not url._is_for_good(unreached, address)
    for status in (301, 302, 401, 403, 404):
        assert url._is_for_good(REFUSED.format(url=address, status=status), address)
    assert url._is_for_good(f"fatal: repository '{address}/' not found", address)


def test_what_is_not_there_is_asked_for_once(server: str) -> None:
    with pytest.raises(UserError, match="cannot fetch"):
        shard(f"{server}/o/none.git")
    assert len(Backend.authorizations) == 1
    with pytest.raises(UserError, match="no revision"):
        shard(f"{server}/o/one.git", "v9")


def test_one_that_cannot_be_fetched_costs_itself_alone(server: str) -> None:
    gone = {**shard(f"{server}/o/one.git"), "repository": f"{server}/o/none.git"}
    table, ledger = mine_listed_shard(gone, OPTIONS)
    assert table.num_rows == 0
    assert ledger.to_dict()["repositories"]["dropped"] == {"unreadable": 1}


def test_a_fetch_is_bounded(server: str) -> None:
    found = shard(f"{server}/o/one.git", max_bytes=512)
    with pytest.raises(UserError, match="cannot fetch"):
        mine_repository_shard(found, OPTIONS)


def test_a_token_goes_to_its_host_alone_and_never_without_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    options = CLONE.model_copy(update={"tokens": {"127.0.0.1": "SECRET"}})
    sent = {scheme: url._pinned(f"{scheme}://127.0.0.1/o/one", options)[1] for scheme in ("https", "http")}
    assert any("extraHeader" in name for name in sent["https"])
    assert not any("extraHeader" in name for name in sent["http"])
    assert not any("extraHeader" in name for name in url._pinned("https://127.0.0.2/o/one", options)[1])


def test_what_a_kill_left_behind_is_removed_and_what_is_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(url, "_LONGEST_BIRTH", -1)
    left = tmp_path / f"cpt-ray-clone-{os.getuid()}-left"
    left.mkdir()
    with url._scratch() as one:
        assert not left.exists()
        with url._scratch():
            assert Path(one).is_dir()
    assert not Path(one).exists()


def test_a_list_names_repositories_and_revisions(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# ours\nhttps://example.org/o/one.git  # the first\n\n/data/two.git v1\n")
    found = code_pairs.listed(str(tmp_path / "list"))
    assert [(one.path, one.commit) for one in found] == [
        ("https://example.org/o/one.git", "HEAD"),
        ("/data/two.git", "v1"),
    ]
    assert code_pairs._groups(found) == ["o/one", "two"]
    (tmp_path / "list").write_text("a b c\n")
    with pytest.raises(UserError, match="more than"):
        code_pairs.listed(str(tmp_path / "list"))


@pytest.mark.parametrize("host", ["EXAMPLE.org", "example.org.", "bücher.example", "ｅxample.org"])
def test_the_name_that_git_is_given_is_the_one_that_was_looked_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another spelling would be looked up once more, and could lead elsewhere by then."""
    asked = []

    def answer(name: str, port: int, **_: Any) -> list[Any]:
        asked.append(name)
        return [(2, 1, 6, "", ("93.184.216.34", port))]

    monkeypatch.setattr("socket.getaddrinfo", answer)
    pinned, settings = url._pinned(f"https://{host}/o/one.git", CloneOptions())
    (name,) = asked
    assert name.isascii()
    assert name == name.lower().rstrip(".")
    assert pinned == f"https://{name}:443/o/one.git"
    assert settings["http.curloptResolve"] == f"{name}:443:93.184.216.34"
    assert url._pinned(f"git://{host}/o/one.git", CloneOptions())[0] == "git://93.184.216.34:9418/o/one.git"


@pytest.mark.parametrize("host", [".".join(["a" * 63] * 4), "bücher.example", "::1", "example.org", "x" * 300])
def test_any_host_has_its_turn(host: str) -> None:
    """A host's name may be longer than a file's, and two hosts never share a turn for their spelling."""
    url._wait_for_turn(host, 0)
    assert url._file_name(host) != url._file_name(host + "_")
    assert len(url._file_name(host)) < 120
