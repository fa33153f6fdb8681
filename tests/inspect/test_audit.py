"""The page of removals to judge: those nearest the threshold, whole texts, and nothing of the corpus runs."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.artifacts import read_table
from cpt_ray.errors import UserError
from cpt_ray.inspect.audit import removals, side_by_side, write_audit
from pipelines import cli


def test_nearest_the_threshold_come_first(corpus: Path) -> None:
    """Of the near layer alone, each with the text it had and that of what was kept."""
    path = str(corpus / "document_clusters")
    table = [row for row in read_table(path).to_pylist() if not row["kept"] and row["layer"] == "near"]
    texts = dict(
        zip(*read_table(str(corpus / "clean_documents"), ["doc_id", "text"]).to_pydict().values(), strict=True)
    )
    assert len(table) > 2
    found = removals(path, len(table) - 1)
    assert [one.similarity for one in found] == sorted(row["similarity"] for row in table)[: len(table) - 1]
    for one in found:
        for name, pieces in ((one.removed, one.left), (one.kept, one.right)):
            assert "".join(piece.text for piece in pieces).strip() == texts[name].strip()[:4000].strip()
    assert all(not piece.same for one in found for piece in one.left if "One more." in piece.text)


@given(st.text(alphabet="ab \n", max_size=60), st.text(alphabet="ab \n", max_size=60))
def test_sides_are_whole(left: str, right: str) -> None:
    """Nothing is lost, and what is the same is the same words in both."""
    a, b = side_by_side(left, right)
    assert "".join(piece.text for piece in a).split() == left.split()
    assert "".join(piece.text for piece in b).split() == right.split()
    same = [[word for piece in side if piece.same for word in piece.text.split()] for side in (a, b)]
    assert same[0] == same[1]


def test_only_our_script_runs(corpus: Path, tmp_path: Path) -> None:
    """The policy names it by its hash; text of the corpus is escaped; a radio button for every answer."""
    count = write_audit(str(corpus / "document_clusters"), str(tmp_path / "page.html"), 100)
    text = (tmp_path / "page.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert text.count('type="radio"') == 3 * count > 0
    assert "<img" not in text


def test_command(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(corpus / "document_clusters")
    assert cli.main(["audit", path, "count=2"]) == 0
    assert "2 removals to judge" in capsys.readouterr().out
    with pytest.raises(UserError, match="no clusters artifact"):
        removals(str(corpus / "documents"), 5)
