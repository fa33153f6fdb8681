"""The frontier: an order that depends on the link graph alone."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.web.frontier import Found, Frontier
from cpt_ray.web.url import Scope

SEED = "http://h/0"
GRAPHS = st.dictionaries(st.integers(0, 15), st.lists(st.integers(0, 15), max_size=5), max_size=16)


def walk(graph: dict[int, list[int]], limit: int, shuffle: random.Random) -> tuple[list[str], dict[str, int], int]:
    """At most `limit` pages: whole levels, and the first of one."""
    frontier = Frontier(Scope("host", (SEED,)), max_depth=20, max_redirects=5)
    frontier.add([SEED])
    order = []
    while level := frontier.level():
        taken = list(level)[: limit - len(order)]
        order += taken
        shuffle.shuffle(taken)
        for url in taken:
            links = [f"http://h/{to}" for to in graph.get(int(url.rpartition("/")[2]), [])]
            shuffle.shuffle(links)
            frontier.add(links, Found(depth=level[url].depth + 1))
    return order, dict(frontier.dropped), frontier.seen


@given(GRAPHS, st.integers(1, 20), st.integers(0, 5), st.integers(0, 5))
def test_order_of_arrival_does_not_show(graph: dict[int, list[int]], limit: int, one: int, two: int) -> None:
    """Same pages in the same order whatever the timing; each once; seen = taken + dropped."""
    first = walk(graph, limit, random.Random(one))
    assert first == walk(graph, limit, random.Random(two + 100))
    order, dropped, seen = first
    assert len(order) == len(set(order)) <= limit
    assert seen >= len(order) + sum(dropped.values())


def test_redirects_in_a_row_end() -> None:
    """A chain of redirects is cut after the limit; a link to the same page starts anew."""
    frontier = Frontier(Scope("host", (SEED,)), max_depth=99, max_redirects=2)
    frontier.add(["http://h/far", "http://h/near"], Found(hops=3))
    frontier.add(["http://h/near"])
    assert frontier.level() == {"http://h/near": Found()}
    assert frontier.dropped == {"too_many_redirects": 1}


def test_depth_and_scope() -> None:
    """What is too deep or elsewhere is counted, not forgotten."""
    frontier = Frontier(Scope("host", (SEED,)), max_depth=0, max_redirects=2)
    frontier.add([SEED, "http://elsewhere/"])
    assert list(frontier.level()) == [SEED]
    frontier.add(["http://h/1"], Found(depth=1))
    assert frontier.level() == {}
    assert frontier.dropped == {"out_of_scope": 1, "max_depth": 1}


def test_traps_are_bounded() -> None:
    """A calendar of queries, a folder inside itself, a path without end: each is cut by name, seeds never."""
    frontier = Frontier(Scope("host", (SEED,)), max_depth=99, max_redirects=2, max_queries=3)
    seed = "http://h/a/a/a/a/a/a/"
    frontier.add([seed], Found(linked=False))
    frontier.add(f"http://h/calendar?month={i}" for i in range(10))
    frontier.add(["http://h" + "/x/y" * 7, "http://h/" + "/".join(map(str, range(60))), "http://h/x/y/x/z/x"])
    assert sorted(frontier.level()) == [
        seed,
        *(f"http://h/calendar?month={i}" for i in range(3)),
        "http://h/x/y/x/z/x",
    ]
    assert frontier.dropped == {"too_many_queries": 7, "repeating_path": 2}


def test_what_is_put_back_comes_again_and_is_judged_once() -> None:
    """URLs of a sick host wait for a later level; they are not counted twice."""
    frontier = Frontier(Scope("any", ()), max_depth=99, max_redirects=2, max_queries=1)
    frontier.add(["http://h/?q=1", "http://i/"])
    level = frontier.level()
    frontier.put_back({"http://h/?q=1": level["http://h/?q=1"]})
    frontier.add(["http://g/"])
    assert list(frontier.level()) == ["http://g/", "http://h/?q=1"]
    assert frontier.level() == {}
    assert frontier.dropped == {}
