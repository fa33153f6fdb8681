"""Long descriptions: words kept, nothing executed, no file read."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.installed import readme


def test_markdown_keeps_words_and_drops_tags() -> None:
    """Raw HTML never passes; its text does. Scripts, relative links and dangerous schemes do not."""
    text = (
        "# Title\n\n<p align=center>centred <b>words</b></p>\n\n<script>steal()</script>\n\n"
        "text <i onclick=x()>inline</i> [out](https://x.example/) [in](docs/a.md) [bad](javascript:x)\n\n|a|b|\n|-|-|\n|1|2|\n"
    )
    shown = readme.html(text, "text/markdown")
    assert "<h1>Title</h1>" in shown
    assert "<p>centred words</p>" in shown
    assert '<a href="https://x.example/">out</a>' in shown
    assert "<a>in</a>" in shown
    assert "<table>" in shown
    assert not any(word in shown for word in ("<script", "steal", "onclick", 'href="javascript', "docs/a.md"))


def test_restructured_text_reads_no_files(tmp_path: Path) -> None:
    """include and raw are off, so a description cannot pull this machine's files into the site."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret words")
    text = (
        f"Title\n=====\n\nSome *words*.\n\n.. include:: {secret}\n\n.. raw:: html\n\n   <script>x</script>\n\n"
        f".. csv-table::\n   :file: {secret}\n"
    )
    shown = readme.html(text, "text/x-rst")
    assert "<em>words</em>" in shown
    assert "secret words" not in shown
    assert "<script" not in shown


def test_plain_text_is_escaped() -> None:
    """Unknown content types are shown as they are."""
    assert readme.html("a <b>\n\nc", "text/other") == "<p>a &lt;b&gt;</p>\n<p>c</p>\n"


@given(st.text(max_size=200), st.sampled_from(["text/markdown", "text/x-rst", "text/plain"]))
def test_any_description_renders(text: str, content_type: str) -> None:
    """No description of any package can stop the site, or smuggle in a script."""
    assert "<script" not in readme.html(text, content_type).lower()
