#!/usr/bin/env bash
# What: selectolax gives an element once for every part of a selector list that it fits, not once.
# Versions: selectolax 1.0.2 beside resiliparse 2.0.1 (lexbor too) and lxml 6.0.2 with cssselect 1.3.0, Python 3.11.
# Expected: "p, .note" selects a set: each element once, in document order, as querySelectorAll is specified (Selectors 4,
#   DOM), and as `:is(p, .note)` does here.
# Seen: css() and select() of LexborHTMLParser give <p class="note"> twice, in place; css_first(..., strict=True) of a document
#   with one such element raises "found 2 matches". lxml gives it once, and so does resiliparse, which is built on lexbor too.
# Here: cpt_ray asks selectolax for no lists.
# Why it matters: extractors gather text by lists ("p, li, .content p"). Paragraphs come doubled on the pages whose classes
#   fit, so quality rules see repeated lines, and MinHash of the page no longer fits its copy on another site.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check selectolax==1.0.2 resiliparse==2.0.1 lxml==6.0.2 cssselect==1.3.0
"$work/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import lxml.html
from resiliparse.parse.html import HTMLTree
from selectolax.lexbor import LexborHTMLParser

print(*(f"{name} {version(name)}" for name in ("selectolax", "resiliparse", "lxml", "cssselect")))
PAGE = '<article><p class="note">One.</p><p>Two.</p><div class="note">Three.</div></article>'
LIST = "p, .note"
tree = LexborHTMLParser(PAGE)
found = {
    "css": [node.text() for node in tree.css(LIST)],
    "select": [node.text() for node in tree.select(LIST).matches],
    "css :is()": [node.text() for node in tree.css(f":is({LIST})")],
    "resiliparse": [node.text for node in HTMLTree.parse(PAGE).document.query_selector_all(LIST)],
    "lxml": [node.text_content() for node in lxml.html.fromstring(PAGE).cssselect(LIST)],
}
for name, texts in found.items():
    print(f"{name}: {texts}")
one = LexborHTMLParser('<p class="note">One.</p>')
print("the same node twice:", one.css(LIST)[0].mem_id == one.css(LIST)[1].mem_id)
try:
    one.css_first(LIST, strict=True)
    strict = None
except ValueError as error:
    strict = str(error)
print("css_first(strict=True) of a page with one element:", strict)
assert found["css"] == found["select"] == ["One.", "One.", "Two.", "Three."]
assert found["css :is()"] == found["resiliparse"] == found["lxml"] == ["One.", "Two.", "Three."]
assert len(one.css(LIST)) == 2 and strict and "found 2" in strict
PYTHON
echo "as stated"
