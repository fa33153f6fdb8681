#!/usr/bin/env bash
# What: safetensors writes a file's metadata in an order that changes from process to process, so that the same tensors with
#   the same metadata of two entries or more give different bytes. Of the tensors the order is fixed.
# Versions: safetensors 0.8.0, numpy 2.4.6; Python 3.11.
# Expected: equal input, equal file: a checkpoint or an index saved twice has one digest, as caches, registries and rebuilds
#   that compare by content assume. Nothing in the documentation says otherwise.
# Seen: of 20 processes that save one tensor with eight entries of metadata most write a file of their own; with one entry all
#   are equal. The map is a hash map of Rust with a random seed. transformers writes one entry ("format"), which hides it.
# Why it matters: whoever puts more into the metadata (a commit, a licence, options) loses reproducible files, and sees it
#   only across processes. Put everything into one entry, as JSON.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > "$folder/save.py" <<'PYTHON'
import hashlib, sys
import numpy
from safetensors.numpy import save
entries = {f"key{n}": "value" for n in range(int(sys.argv[1]))}
print(hashlib.sha256(save({"a": numpy.arange(4.0)}, entries)).hexdigest())
PYTHON
"$folder/venv/bin/python" -c 'import numpy, safetensors; print("safetensors", safetensors.__version__, "numpy", numpy.__version__)'
different() { for _ in $(seq 20); do "$folder/venv/bin/python" "$folder/save.py" "$1"; done | sort -u | wc -l; }
one=$(different 1)
eight=$(different 8)
echo "files of 20 saves with one entry of metadata: $one; with eight: $eight"
if [ "$one" -ne 1 ] || [ "$eight" -lt 2 ]; then
  echo "this has changed"
  exit 1
fi
