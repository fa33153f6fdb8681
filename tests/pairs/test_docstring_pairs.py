"""Code pairs: what they carry, and what is dropped."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
import xxhash

from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.options import MineOptions
from cpt_ray.errors import UserError
from cpt_ray.pairs.docstrings import code_pairs, plain
from cpt_ray.pairs.options import DocstringOptions, SplitOptions
from cpt_ray.pairs.schema import PAIRS
from cpt_ray.words import text_hash

SOURCE = '''
def {name}(text):
    """Parses {what} from the `text`.

    :param text: where it is
    """
    found = {name}_of(text)
    return found
'''


def functions(*names: str, what: str | None = None) -> pa.Table:
    sources = [Source(f"{name}.py", SOURCE.format(name=name, what=what or name).encode()) for name in names]
    table, _ = mine(sources, Origin("group", "1", "MIT"), MineOptions())
    assert table.num_rows == len(names)
    return table


def test_a_pair_carries_its_function() -> None:
    mined = functions("dates")
    [function] = mined.to_pylist()
    table, ledger = code_pairs(mined, None, DocstringOptions(source="py"))
    [pair] = table.to_pylist()
    assert table.schema == PAIRS
    assert pair["x"] == "Parses dates from the text."
    assert pair["y"] == function["code"]
    assert pair["x"] not in pair["y"]
    assert (pair["kind"], pair["source"], pair["group"], pair["split"]) == ("code", "py", "group", "")
    assert pair["x_doc"] == pair["y_doc"] == function["function_id"]
    assert (pair["x_start"], pair["x_end"]) == (function["start_line"], function["end_line"]) == (2, 8)
    assert (pair["path"], pair["line"], pair["licence"]) == ("dates.py", 2, "MIT")
    assert pair["x_hash"] == text_hash(pair["x"])
    assert pair["y_hash"] == function["content_hash"]
    assert pair["cluster"] == xxhash.xxh3_64_intdigest(function["function_id"].encode())
    assert ledger.to_dict() == {"functions": {"read": 1, "kept": 1, "dropped": {}}}


def test_x_may_be_the_whole_docstring_as_it_is() -> None:
    table, _ = code_pairs(functions("dates"), None, DocstringOptions(side_x="docstring", plain=False))
    assert table["x"].to_pylist() == ["Parses dates from the `text`.\n\n:param text: where it is"]


def test_only_the_kept_of_a_cluster_is_used_and_its_cluster_travels() -> None:
    mined = functions("dates", "times", "sizes")
    ids = mined["function_id"].to_pylist()
    clusters = pa.table({"doc_id": ids, "cluster_id": [ids[0], ids[0], ids[2]], "kept": [False, True, True]})
    table, ledger = code_pairs(mined, clusters, DocstringOptions())
    assert set(table["y_doc"].to_pylist()) == {ids[1], ids[2]}
    of = dict(zip(table["y_doc"].to_pylist(), table["cluster"].to_pylist(), strict=True))
    assert of[ids[1]] == xxhash.xxh3_64_intdigest(ids[0].encode())
    assert ledger.to_dict() == {"functions": {"read": 3, "kept": 2, "dropped": {"duplicate": 1}}}


def test_further_pairs_are_sources_of_their_own() -> None:
    """Off by default; a name of one word and a head that is not known give none, by name in the ledger."""
    mined = functions("parse_dates", "times")
    table, ledger = code_pairs(mined, None, DocstringOptions(source="py", further=("name", "signature")))
    of = {(row["source"], row["x_doc"]): row for row in table.to_pylist()}
    first, second = (row["function_id"] for row in mined.sort_by("path").to_pylist())
    assert set(of) == {
        *(("py", doc) for doc in (first, second)),
        ("py_name", first),
        *(("py_signature", doc) for doc in (first, second)),
    }
    assert of["py_name", first]["x"] == "parse dates"
    assert of["py_name", first]["y"] == "def _(text):\n    found = parse_dates_of(text)\n    return found"
    assert of["py_signature", first]["x"] == "def parse_dates(text):"
    assert of["py_signature", first]["y"] == "found = parse_dates_of(text)\nreturn found"
    assert len({row["cluster"] for row in of.values()}) == 2  # the pairs of one function never meet in a batch
    assert ledger.to_dict() == {"functions": {"read": 6, "kept": 5, "dropped": {"name_of_one_word": 1}}}
    unknown = mined.set_column(mined.schema.get_field_index("signature"), "signature", pa.array(["", ""]))
    _, ledger = code_pairs(unknown, None, DocstringOptions(further=("signature",)))
    assert ledger.to_dict() == {"functions": {"read": 4, "kept": 2, "dropped": {"no_signature": 2}}}


def test_further_pairs_are_of_no_group_that_is_held_out() -> None:
    """What is measured is search by documentation, whatever there was to learn from."""
    mined = functions("parse_dates", "read_times")
    split = SplitOptions(heldout_share=0.999, always_train=())
    table, ledger = code_pairs(mined, None, DocstringOptions(further=("name",)), split)
    assert table["source"].to_pylist() == ["code", "code"]
    assert ledger.to_dict() == {"functions": {"read": 4, "kept": 2, "dropped": {"further_of_heldout": 2}}}


def test_an_x_that_describes_many_functions_is_limited() -> None:
    names = ["aa", "bb", "cc", "dd", "ee"]
    table, ledger = code_pairs(functions(*names, what="dates"), None, DocstringOptions(max_per_x=2))
    assert table.num_rows == 2
    assert ledger.units["functions"].dropped == {"x_repeated": 3}


def test_the_same_pair_of_texts_is_taken_once() -> None:
    mined = pa.concat_tables([functions("dates"), functions("times")])
    copy, _ = mine(
        [Source("vendored/dates.py", SOURCE.format(name="dates", what="dates").encode())],
        Origin("other", "2", "MIT"),
        MineOptions(),
    )
    table, ledger = code_pairs(pa.concat_tables([mined, copy]), None, DocstringOptions())
    assert table.num_rows == 2
    assert ledger.units["functions"].dropped == {"same_text": 1}


def test_pairs_do_not_depend_on_the_order_of_the_functions() -> None:
    mined = functions(*[f"name{i}" for i in range(20)], what="dates")
    order = list(range(20))
    random.Random(1).shuffle(order)
    first = code_pairs(mined, None, DocstringOptions())
    second = code_pairs(mined.take(pa.array(order)), None, DocstringOptions())
    assert first[0].equals(second[0])
    assert first[1] == second[1]
    assert first[0]["pair_id"].to_pylist() == sorted(first[0]["pair_id"].to_pylist())


def test_a_clusters_table_of_another_corpus_is_refused() -> None:
    clusters = pa.table({"doc_id": ["other"], "cluster_id": ["other"], "kept": [True]})
    with pytest.raises(UserError, match="in no duplicate cluster"):
        code_pairs(functions("dates"), clusters, DocstringOptions())


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("A :class:`~torch.nn.Module` of ``size`` *n*.", "A Module of size n."),
        ("See :py:func:`os.path.join` or `its page <https://example.org>`_.", "See os.path.join or its page."),
        ("Read :ref:`the guide <guide-page>` and **then** `x`.", "Read the guide and then x."),
        (
            "Computes a * b * c and x**2, with *args and **kwargs.",
            "Computes a * b * c and x**2, with *args and **kwargs.",
        ),
        ("Read [the guide](https://e.org) __now__ and L{Foo<foo>}.", "Read the guide now and Foo."),
        ("Matches **/*.py and *.txt* files.", "Matches **/*.py and *.txt* files."),
        ("Calls __init__ and __name__ of a[i](x y).", "Calls __init__ and __name__ of a[i](x y)."),
        ("Nothing to do here, 2:3 and a_b_c.", "Nothing to do here, 2:3 and a_b_c."),
    ],
)
def test_markup_is_taken_out_of_x(marked: str, expected: str) -> None:
    assert plain(marked) == expected


@pytest.mark.parametrize(
    ("text", "there"),
    [(":a" * 500_000 + "`b", 1_000_002), ("`a" + " " * 500_000, 500_002), (":a:`b" + " " * 500_000, 500_005)],
)
def test_markup_that_does_not_end_is_read_once(text: str, there: int) -> None:
    """In the square of its length it would be hours."""
    assert len(plain(text)) == there


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see:class:`~a.B`", "seeB"),
        ("::py:meth:`it  <a.b>` and", ":it and"),
        (":X:ref:`!a`", ":Xa"),
        ("`  the text <https://e.example>`__", "  the text"),
    ],
)
def test_markup_may_stand_in_a_row_of_colons(text: str, found: str) -> None:
    assert plain(text) == found
