#!/usr/bin/env bash
# What: obstore's fsspec file system takes `pipe_file(..., mode="create")` and overwrites what stands, without a word.
# Versions: obstore 0.12.1, fsspec 2026.9.0, Python 3.11.
# Expected: fsspec documents mode="create" of pipe_file as "fail if the file exists"; its own memory and local file systems
#   raise FileExistsError, and s3fs sends If-None-Match. obstore's own `put(..., mode="create")` raises AlreadyExistsError.
# Seen: FsspecStore._pipe_file has the argument and does not use it: the second "create" succeeds and the first writer's
#   bytes are gone.
# Why it matters: exclusive creation is how a lock, a lease or a manifest is written once in a bucket. Who changes from s3fs
#   to obstore behind fsspec for its speed keeps the same call, and two builders then both believe that they won.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check obstore==0.12.1 fsspec==2026.9.0
"$work/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import fsspec
import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.fsspec import FsspecStore
from obstore.store import MemoryStore

print("obstore", version("obstore"), "fsspec", version("fsspec"))


def twice(fs, path):
    fs.pipe_file(path, b"first", mode="create")
    try:
        fs.pipe_file(path, b"second", mode="create")
    except FileExistsError as error:
        return f"FileExistsError, holds {fs.cat_file(path)!r}"
    return f"no error, holds {fs.cat_file(path)!r}"


theirs = twice(fsspec.filesystem("memory"), "/once")
ours = twice(FsspecStore("memory"), "once")
store = MemoryStore()
obstore.put(store, "once", b"first", mode="create")
try:
    obstore.put(store, "once", b"second", mode="create")
    own = "no error"
except AlreadyExistsError:
    own = "AlreadyExistsError"
print("fsspec's memory file system, mode='create' twice:", theirs)
print("obstore's FsspecStore, the same two calls:       ", ours)
print("obstore.put, mode='create' twice:                ", own)
as_described = theirs.startswith("FileExistsError") and ours == "no error, holds b'second'" and own == "AlreadyExistsError"
print("as described" if as_described else "this has changed")
sys.exit(0 if as_described else 1)
PYTHON
