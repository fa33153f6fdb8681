"""nginx over a folder, here on loopback, and what it says in its own log."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
daemon off; worker_processes 1; pid {state}/pid; error_log {state}/error.log; {user}
events {{ worker_connections 1024; }}
http {{
  types {{ text/html html; text/plain txt; application/xml xml; }}
  default_type application/octet-stream;
  log_format sent "$msec\\t$request_time\\t$host\\t$request_uri\\t$status\\t$body_bytes_sent\\t$http_user_agent";
  access_log {state}/access.log sent;
  client_body_temp_path {state}/body; proxy_temp_path {state}/proxy; fastcgi_temp_path {state}/fastcgi;
  uwsgi_temp_path {state}/uwsgi; scgi_temp_path {state}/scgi;
  keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port}{tls}; root {root}; }}
}}
"""


@dataclass(frozen=True)
class Request:
    """A line of the log: seconds since 1970 at the answer's end, seconds it took, and what was asked and sent."""

    ended: float
    seconds: float
    host: str
    path: str
    status: int
    sent: int
    agent: str


@dataclass(frozen=True)
class Nginx:
    """A server that is running; `certificate` is what a client has to trust where it speaks TLS."""

    port: int
    state: Path
    certificate: Path | None = None

    def log(self) -> list[Request]:
        """All requests so far."""
        rows = [line.split("\t") for line in (self.state / "access.log").read_text().splitlines()]
        return [
            Request(float(e), float(s), host, path, int(status), int(sent), agent)
            for e, s, host, path, status, sent, agent in rows
        ]

    def forget(self) -> None:
        """Begin the log anew."""
        (self.state / "access.log").write_text("")


@contextmanager
def serving(root: str | Path, *, tls: bool = False) -> Iterator[Nginx]:
    """Serve a folder, which anybody may read, at http(s)://127.0.0.1:port/; SystemExit where there is no nginx."""
    if shutil.which("nginx") is None:
        raise SystemExit("nginx is not there: install your system's package of it (Debian: nginx-light)")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        state = Path(folder)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        certificate = _certificate(state) if tls else None
        speaks = f" ssl; ssl_certificate {certificate}; ssl_certificate_key {state}/key.pem" if tls else ""
        user = "user root;" if Path("/proc/self").owner() == "root" else ""
        (state / "nginx.conf").write_text(CONFIG.format(state=state, root=root, port=port, tls=speaks, user=user))
        free.close()
        server = subprocess.Popen(["nginx", "-p", folder, "-e", f"{state}/error.log", "-c", f"{state}/nginx.conf"])
        try:
            for _ in range(100):
                with socket.socket() as attempt:
                    if attempt.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            else:
                raise SystemExit(f"nginx does not answer: {(state / 'error.log').read_text()}")
            yield Nginx(port, state, certificate)
        finally:
            server.terminate()
            server.wait()


def _certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1, signed by itself; the key is beside it."""
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    made = folder / "certificate.pem"
    paths = ["-keyout", str(folder / "key.pem"), "-out", str(made)]
    subprocess.run([*command.split(), *paths], check=True, capture_output=True)
    return made
