#!/usr/bin/env bash
# fasttext-numpy2 0.10.4 (the build of fastText that people take for NumPy 2; Python 3.11): training with fewer than ten threads
# begins with vectors of which most were never set.
#
# Expected: every word's vector begins as a random one of [-1/dim, 1/dim], whatever `thread` is, and a training of 800 lines of
#           two labels ends.
# Seen:     the threads that fill the matrix take a tenth of it each, as if they were always ten. With thread=1 nine tenths of
#           the vectors are what was in memory before. By chance those are zeros or tiny numbers, and the training is merely
#           another one; or not, and it ends with "Encountered NaN." fasttext-community 0.11.9, the same calls: all vectors
#           are set, and every training ends.
# Why it matters: quality and language classifiers of web text are trained with few threads, on small machines and with
#           thread=1 for a result that can be repeated, which it then cannot. `thread` defaults to the number of cores less
#           one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/train.py" <<'PY'
import random, sys
import numpy as np
import fasttext

kinds = {
    "hq": "the parser reads a document and returns its tree to whoever asked for it".split(),
    "cc": "buy cheap watches now best price click here free shipping casino bonus win".split(),
}
chosen = random.Random(0)
with open(sys.argv[1], "w") as sink:
    for _ in range(400):
        for label, words in kinds.items():
            sink.write(f"__label__{label} " + " ".join(chosen.choice(words) for _ in range(20)) + "\n")

# A learning rate of nothing: what is found afterwards is what was there at the beginning.
for threads in (1, 10):
    start = fasttext.train_supervised(sys.argv[1], thread=threads, lr=1e-30, epoch=1, bucket=20_000, wordNgrams=2, verbose=0)
    vectors = start.get_input_matrix()
    random_ones = ((vectors != 0) & (abs(vectors) <= 1 / 100) & (abs(vectors) > 1e-9)).mean()
    print(f"thread={threads}: {random_ones:.0%} of the values are set")
ended = 0
for _ in range(20):
    try:
        fasttext.train_supervised(sys.argv[1], thread=1, lr=0.1, epoch=5, dim=10, verbose=0)
        ended += 1
    except RuntimeError as error:
        said = error
print(f"trainings that ended: {ended} of 20" + (f"; the others: {said}" if ended < 20 else ""))
PY

for package in fasttext-numpy2==0.10.4 fasttext-community==0.11.9; do
    python3.11 -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install -q --disable-pip-version-check --only-binary :all: "$package"
    echo "== $package"
    "$work/venv/bin/python" "$work/train.py" "$work/train.txt" | tee "$work/${package%%=*}.log"
    rm -rf "$work/venv"
done
# How many trainings end is chance, and is shown only.
grep -q "^thread=1: 10% of the values" "$work/fasttext-numpy2.log" || { echo "CHANGED: another share is set with one thread"; exit 1; }
grep -q "^thread=1: 100% of the values" "$work/fasttext-community.log" || { echo "CHANGED: the other build too"; exit 1; }
echo "As seen: with one thread a tenth of the vectors is set."
