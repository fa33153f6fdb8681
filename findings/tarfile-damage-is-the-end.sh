#!/usr/bin/env bash
# Python's tarfile (seen in 3.11.7): a damaged header behind the first ends the archive, without an error.
#
# Expected: `for member in tar` raises ReadError at a header whose checksum is wrong, as it does where the first header is,
#   and as GNU tar does ("Skipping to next header", exit code 2).
# Seen: of five members with 512 bytes of the third's header overwritten, two are listed and the loop ends as it does at
#   the end of a whole archive; errorlevel=2 changes nothing, in mode "r:" and "r|" alike.
# Why it matters: who mines sdists, crates, npm archives or dumps of a forge reads a part of an archive, counts it as read
#   whole, and the files behind the damage are in no figure. `ignore_zeros=True` goes on behind the damage, and a
#   TarInfo subclass whose fromtarfile() sees the HeaderError is told of it.
# Exits non-zero if this has changed.
set -euo pipefail
python3 - <<'PYTHON'
import io
import sys
import tarfile

sink = io.BytesIO()
with tarfile.open(fileobj=sink, mode="w") as tar:
    for i in range(5):
        info = tarfile.TarInfo(f"{i}.py")
        info.size = 512
        tar.addfile(info, io.BytesIO(b"x" * 512))
whole = sink.getvalue()
third = 2 * 1024
damaged = whole[:third] + b"\xff" * 512 + whole[third + 512 :]


class Noticing(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, tar):
        try:
            return super().fromtarfile(tar)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):
            raise
        except tarfile.HeaderError as error:
            raise RuntimeError("a damaged header") from error


print("Python", sys.version.split()[0])
seen = {}
for mode in ("r:", "r|"):
    with tarfile.open(fileobj=io.BytesIO(damaged), mode=mode, errorlevel=2) as tar:
        seen[mode] = [member.name for member in tar]
    print(f"mode {mode!r}: {seen[mode]} and the end, no error")
try:
    with tarfile.open(fileobj=io.BytesIO(whole[:0] + b"\xff" * 512 + whole[512:]), mode="r:") as tar:
        first = list(tar)
except tarfile.ReadError as error:
    first = f"ReadError: {error}"
print("the same damage in the first header:", first)
try:
    with tarfile.open(fileobj=io.BytesIO(damaged), mode="r:", tarinfo=Noticing) as tar:
        noticed = [member.name for member in tar]
except RuntimeError as error:
    noticed = str(error)
print("with the subclass:", noticed)
assert seen == {"r:": ["0.py", "1.py"], "r|": ["0.py", "1.py"]}, seen
assert isinstance(first, str), first
assert noticed == "a damaged header", noticed
PYTHON
