"""The parent run: one per pipeline, place and options, whatever machine it goes on at."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_ray.artifacts import Ledger, build, read_manifest
from cpt_ray.cluster import ClusterOptions
from cpt_ray.options import Options
from pipelines.tracked import Tracked, TrackingOptions


class Toy(Options):
    """A toy pipeline's options."""

    cluster: ClusterOptions = ClusterOptions()
    tracking: TrackingOptions = TrackingOptions()
    rate: float = 0.5


def tracked(folder: Path, options: Toy) -> Tracked:
    return Tracked(options.tracking, str(folder), "toy", f"toy/{folder}", options)


def test_a_failed_run_goes_on_elsewhere_and_another_rate_is_another_run(tmp_path):
    """MLflow keeps parameters for ever: what may change between two tries must not be among them, or the second dies."""
    with pytest.raises(KeyError), tracked(tmp_path, Toy()) as first:
        raise KeyError
    elsewhere = Toy(cluster=ClusterOptions(object_store_mb=1024, workers=1))
    with tracked(tmp_path, elsewhere) as again:
        assert again.parent.id == first.parent.id
    with tracked(tmp_path, Toy(rate=0.25)) as other:
        assert other.parent.id != first.parent.id


def test_a_finished_stage_holds_its_ledger_and_its_data(tmp_path):
    """Parameters, rows and reasons of a stage are those of its manifest; a second report changes nothing."""
    path = str(tmp_path / "toy_rows")
    with build(path, step="toy", version=1, params={"least": 3}) as work:
        work.publish(Ledger.of("rows", read=5, kept=4, dropped={"short": 1}), rows=4)
    manifest = read_manifest(path)
    with tracked(tmp_path, Toy()) as run:
        stage = run.finish("toy_rows", path, manifest)
        assert run.finish("toy_rows", path, manifest).id == stage.id
    held = stage._client.get_run(stage.id)
    assert held.data.params == {"least": "3"}
    assert {"rows_in": 5.0, "rows_kept": 4.0, "dropped.short": 1.0}.items() <= held.data.metrics.items()
    assert held.data.tags["cpt_ray.digest"] == manifest.digest
    assert held.info.status == "FINISHED"
