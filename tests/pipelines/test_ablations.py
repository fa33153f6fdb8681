"""The ablations compare what they say they compare, on the data they say."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from benchmarks.ablations import EXPERIMENTS, Measured, Plan, Setting, rate_factor, rows, settings, with_duplicates
from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.options import MineOptions
from cpt_ray.model.options import ModelOptions
from cpt_ray.pairs.options import BatchOptions, SplitOptions
from cpt_ray.pairs.splits import side
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.run import TrialResult
from cpt_ray.sweep.trials import Setting as Recipe
from cpt_ray.sweep.trials import make_trial
from cpt_ray.train.options import TrainOptions

PLAN = Plan(batch_sizes=(8, 16), examples=32, batch_size=16, masking_examples=16, seeds=2)

BODY = '''
def {name}(text):
    """{what}"""
    found = {call}(text, strict=True)
    return found.strip()
'''
RECIPE = Recipe(TrainOptions(workers=0), BatchOptions(), ModelOptions())
SPLIT = SplitOptions(heldout_share=0.5, always_train=("ours",))
THEIRS = next(name for name in map(str, range(99)) if side(name, SPLIT) == "heldout")


def functions(group: str, *texts: tuple[str, str]) -> pa.Table:
    """One mined function for each (docstring, function it calls), of a distribution `group`."""
    sources = [
        Source(f"f{i}.py", BODY.format(name=f"read_{call}", what=what, call=call).encode())
        for i, (what, call) in enumerate(texts)
    ]
    table, _ = mine(sources, Origin(group, "1", "MIT"), MineOptions())
    assert table.num_rows == len(texts)
    return table


def own_clusters(table: pa.Table, **same: str) -> pa.Table:
    """Each function in a cluster of its own, but for `same`: function id -> cluster id."""
    ids = table["function_id"].to_pylist()
    clusters = [same.get(name, name) for name in ids]
    return pa.table({"doc_id": ids, "cluster_id": clusters, "kept": [name not in same for name in ids]})


def measured(setting: Setting, score: float = 0.0) -> Measured:
    """MRRs that are sums of what each part of the setting is worth."""
    sweep = SweepOptions(examples=setting.examples)
    trial = make_trial({"batches.batch_size": setting.batch_size}, sweep, RECIPE)
    gain = 0.1 * (setting.batch_size == 16) + 0.2 * setting.pretrained + 0.01 * setting.mask
    draws = [{"mrr": hard + setting.seed * 0.05 + gain} for hard in (0.1, 0.3)]
    return Measured(setting, TrialResult(trial, [], score, 0.0, ""), draws)


def test_every_training_stands_once_and_what_is_compared_is_equal_otherwise() -> None:
    """Trainings that two experiments share are done once. Sizes are compared at equal examples and at equal steps, from
    both weights; weights and mask with everything else equal."""
    found = settings(PLAN)
    assert len(found) == len(set(found)) == 2 * (2 * 3 + 4)
    assert len({(one.name, one.batch_size) for one in found}) == len(found)
    for seed in range(PLAN.seeds):
        usual = Setting(16, 32, seed)
        for one in (usual, replace(usual, batch_size=8), replace(usual, batch_size=8, examples=16)):
            assert {one, replace(one, pretrained=False)} <= set(found)
        for corpus in ("duplicates", "repeats"):
            masked = replace(usual, corpus=corpus, examples=16)
            assert {masked, replace(masked, mask=False)} <= set(found)
    assert PLAN.lengths == [32, 32]


def test_one_experiment_by_itself_is_what_it_is_among_others() -> None:
    """Its trainings and its rows, and none of another's."""
    found = [PLAN.model_copy(update={"experiments": (one,)}) for one in EXPERIMENTS]
    assert set().union(*(settings(plan) for plan in found)) == set(settings(PLAN))
    alone = [row for plan in found for row in rows([measured(one) for one in settings(plan)], plan)]
    assert alone == rows([measured(one) for one in settings(PLAN)], PLAN)


def test_the_demo_s_own_rate_stands_at_its_own_batch_size() -> None:
    assert rate_factor(512, 512) == 1
    assert rate_factor(128, 512) == pytest.approx(0.5)
    assert rate_factor(4096, 512) == 1


def test_duplicates_stay_and_nothing_held_out_does() -> None:
    """Copies of whole functions stay in, each a cluster of its own; held-out distributions and what leaks from them, by
    text or by duplicate cluster, do not."""
    ours = functions(
        "ours",
        ("Reads a date from text.", "date"),
        ("Reads a date from text.", "day"),
        ("Reads the hour of a text.", "hour"),
        ("Reads the size of a text.", "size"),
        ("Reads the colour of a text.", "colour"),
    )
    copies = functions("mine", ("Reads a date from text.", "date"))
    theirs = functions(THEIRS, ("Reads the size of a text.", "length"), ("Reads the shade of a text.", "shade"))
    table = pa.concat_tables([ours, copies, theirs])
    of = {row["code"]: row["function_id"] for row in table.to_pylist()}
    by_call = {call: name for code, name in of.items() for call in ("colour", "shade") if f"read_{call}" in code}
    split = SPLIT.model_copy(update={"always_train": ("ours", "mine")})
    clusters = own_clusters(table, **{by_call["colour"]: by_call["shade"]})

    kept, ledger = with_duplicates(table, clusters, split, repeats_only=False)
    assert sorted(kept["x"].to_pylist()) == ["Reads a date from text."] * 3 + ["Reads the hour of a text."]
    assert len(set(kept["cluster"].to_pylist())) == len(set(kept["pair_id"].to_pylist())) == 4
    assert ledger.units["functions"].dropped == {"leaks_heldout": 2, "heldout_group": 2}
    ledger.check("test")

    repeats, ledger = with_duplicates(table, clusters, split, repeats_only=True)
    assert repeats["x"].to_pylist() == ["Reads a date from text."] * 3
    assert ledger.units["functions"].dropped["alone"] == 1
    ledger.check("test")


def test_differences_are_taken_seed_by_seed_and_draw_by_draw() -> None:
    """A draw that is hard for all, and a seed that is lucky for all, are no difference."""

    found = {row["case"]: row for row in rows([measured(setting) for setting in settings(PLAN)], PLAN)}
    assert found["equal examples, random weights, B=8"]["peer"] is None
    for case, value in (
        ("equal examples, random weights, B=16", 0.1),
        ("equal steps, pretrained weights, B=16", 0.1),
        ("pretrained weights, 32 examples", 0.2),
        ("masking, duplicates", 0.01),
        ("masking, repeats", 0.01),
    ):
        assert found[case]["difference"] == {"mean": value, "least": value, "most": value}
        assert len(found[case]["by_seed"]) == 2
