#!/usr/bin/env bash
# What: obstore (and all else that stands on Rust's object_store) cannot write to gcp-storage-emulator: a put raises "ETag
#   Header missing from response", after the emulator has stored the object and answered 200.
# Versions: obstore 0.12.1, gcp-storage-emulator 2026.7.19, google-cloud-storage 3.13.0, Python 3.11.
# Expected: the emulator is one of Google Cloud Storage, and Google's own client writes to it and reads from it; obstore
#   takes another base URL (GOOGLE_BASE_URL) for just such servers.
# Seen: object_store writes by the XML API (PUT /bucket/key) and takes the version from the answer's ETag; the emulator has
#   the PUT, and gives no ETag. The put is an error and the object is there: who retries, or writes conditionally, then
#   finds something that nobody is said to have written.
# Why it matters: data tools that moved from gcsfs to obstore, delta-rs, polars or lance test their gs:// paths against an
#   emulator. Google's client passing there says nothing of them, and a failed put that has written is what publishing by
#   one write must survive.
set -euo pipefail
work=$(mktemp -d)
trap 'kill "${server:-0}" 2>/dev/null || true; rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check \
  obstore==0.12.1 gcp-storage-emulator==2026.7.19 google-cloud-storage==3.13.0
port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$work/venv/bin/gcp-storage-emulator" start --host 127.0.0.1 --port "$port" --in-memory --default-bucket corpus \
  >"$work/log" 2>&1 &
server=$!
for _ in $(seq 50); do grep -q "All services started" "$work/log" && break; sleep 0.2; done
PORT=$port "$work/venv/bin/python" - <<'PYTHON'
import os
import sys
from importlib.metadata import version

import obstore
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from obstore.store import GCSStore

print(*(f"{name} {version(name)}" for name in ("obstore", "gcp-storage-emulator", "google-cloud-storage")))
address = f"http://127.0.0.1:{os.environ['PORT']}"
client = storage.Client("test", AnonymousCredentials(), client_options={"api_endpoint": address})
bucket = client.bucket("corpus")
bucket.blob("theirs").upload_from_string("written")
theirs = bucket.blob("theirs").download_as_bytes()
store = GCSStore(
    "corpus",
    config={"base_url": address, "bearer_token": "none"},
    client_options={"allow_http": True},
    retry_config={"max_retries": 0},
)
try:
    obstore.put(store, "ours", b"written")
    said = "no error"
except Exception as error:
    said = str(error).splitlines()[0]
there = bucket.blob("ours").exists()
print(f"google-cloud-storage: writes and reads {theirs!r}")
print(f"obstore.put: {said}; the object is there: {there}")
sys.exit(0 if theirs == b"written" and "ETag Header missing" in said and there else 1)
PYTHON
