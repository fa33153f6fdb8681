"""Every style of documentation at every construction, in every language: 200 examples and more of each."""

from __future__ import annotations

import pytest

from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.code.options import MineOptions

from .examples import LANGUAGES, placed

OPTIONS = MineOptions(languages=tuple(GRAMMARS), min_code_lines=1, min_words=1)
FEWEST = 200


def test_every_language_has_its_examples() -> None:
    assert LANGUAGES.keys() == GRAMMARS.keys()
    for language, (extension, styles, places) in LANGUAGES.items():
        assert extension in GRAMMARS[language].extensions
        sources = {placed(documentation, source) for _, documentation, _ in styles for source, _ in places}
        assert len(sources) >= FEWEST, (language, len(sources))


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_documentation_is_read_wherever_it_may_stand(language: str, ends: str) -> None:
    extension, styles, places = LANGUAGES[language]
    wrong = []
    for style, documentation, said in styles:
        for source, name in places:
            text = placed(documentation, source).replace("\n", ends)
            table, ledger = mine([Source(f"a{extension}", text.encode())], Origin("g", "1", "MIT"), OPTIONS)
            ledger.check(text)
            found = dict(zip(table["qualname"].to_pylist(), table["summary"].to_pylist(), strict=True))
            expected = {name: said} if name and said else {}
            if found != expected:
                wrong.append((style, text, expected, found))
            for row in table.to_pylist():
                span = text.encode()[row["start_byte"] : row["end_byte"]].decode()
                assert row["code"].split()[-1] == span.split()[-1]
                assert row["code"].startswith(row["signature"])
    assert not wrong, f"{len(wrong)} of {len(styles) * len(places)}; the first: {wrong[0]}"
