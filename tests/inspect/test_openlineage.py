"""Manifests as OpenLineage events: every artifact once as an output, and what was read is what was made before."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.store import build, read_manifest
from cpt_ray.inspect.lineage import lineage
from cpt_ray.inspect.openlineage import events
from pipelines import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """documents, of an archive that is not here; pairs, of the documents."""
    table = pa.table({"id": ["a", "b"], "text": ["one", "two"]})
    inputs: dict = {"archive": "0123"}
    for name in ("documents", "pairs"):
        with build(str(tmp_path / name), step=name, version=2, params={"threshold": 0.5}, inputs=inputs) as work:
            work.write_parts(table, 1)
            ledger = Ledger.of("pages", read=5, kept=2, dropped={"empty": 3})
            inputs = {"documents": work.publish(ledger, rows=2, schema=table.schema)}
    return tmp_path


def test_events_say_what_ran_on_what_to_what(folder: Path) -> None:
    """As the specification has them, and linked: an input has the name and the version of the output it is."""
    made = events(lineage(str(folder / "pairs")))
    assert [(event["eventType"], event["job"]["name"]) for event in made] == [
        *(("START", "documents"), ("COMPLETE", "documents"), ("START", "pairs"), ("COMPLETE", "pairs"))
    ]
    for event in made:
        assert {"eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"} <= event.keys()
        assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        uuid.UUID(event["run"]["runId"])
        held = [event["run"]["facets"], event["job"]["facets"]]
        for dataset in (*event["inputs"], *event["outputs"]):
            assert dataset["namespace"]
            held += [dataset["facets"], dataset.get("outputFacets", {})]
        for facets in held:
            assert all({"_producer", "_schemaURL"} <= facet.keys() for facet in facets.values())
    assert made[0]["run"]["runId"] == made[1]["run"]["runId"] != made[2]["run"]["runId"]
    (output,), (read,) = made[1]["outputs"], made[3]["inputs"]
    assert (
        (output["namespace"], output["name"])
        == (read["namespace"], read["name"])
        == ("file", str(folder / "documents"))
    )
    version = read["facets"]["version"]["datasetVersion"]
    assert version == output["facets"]["version"]["datasetVersion"] == read_manifest(str(folder / "documents")).digest
    assert made[1]["inputs"][0]["name"] == "archive/0123"
    assert output["facets"]["schema"]["fields"] == [
        {"name": "id", "type": "string"},
        {"name": "text", "type": "string"},
    ]
    counted = output["outputFacets"]["outputStatistics"]
    sizes = [path.stat().st_size for path in (folder / "documents").glob("part-*")]
    assert (counted["rowCount"], counted["fileCount"], counted["size"]) == (2, 2, sum(sizes))
    ledger = made[1]["run"]["facets"]["cptRay_ledger"]["units"]
    assert ledger == {"pages": {"read": 5, "kept": 2, "dropped": {"empty": 3}}}


def test_they_are_written_a_line_each_and_twice_are_the_same(folder: Path) -> None:
    for _ in range(2):
        assert cli.main(["lineage", str(folder / "pairs")]) == 0
    lines = (folder / "pairs.openlineage.ndjson").read_text().splitlines()
    assert [json.loads(line) for line in lines] == events(lineage(str(folder / "pairs")))


def test_a_bucket_is_a_namespace(folder: Path) -> None:
    found = lineage(str(folder / "documents"))
    (dataset,) = events(replace(found, path="s3://bucket/demo/documents"))[1]["outputs"]
    assert (dataset["namespace"], dataset["name"]) == ("s3://bucket", "demo/documents")
