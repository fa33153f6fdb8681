"""Manifests as OpenLineage events (spec 2-0-2), for the catalogue that a team already has: what ran, on what, to what.

A manifest says all that two events hold, START and COMPLETE, so they can be written at any time, and twice are the same: a
run's id follows from what it made. An artifact is a dataset by its place, its version is its digest. What OpenLineage has no
facet for, the ledger and the parameters, travels in facets of our own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from cpt_ray.artifacts import Manifest
from cpt_ray.inspect.lineage import Made

NAMESPACE = "cpt-ray"
SPEC = "https://openlineage.io/spec"
PRODUCER = "https://pypi.org/project/cpt-ray"
OWN = "#/$defs/"
"""What names the schema of a facet of ours, below PRODUCER."""


def events(made: Made) -> list[dict[str, Any]]:
    """START and COMPLETE of each run that led to `made`, what was made first in front."""
    return [event for one in made.flow() for event in _of(one)]


def _of(made: Made) -> Iterator[dict[str, Any]]:
    manifest = made.manifest
    ended = datetime.fromisoformat(manifest.created)
    common = {
        "producer": PRODUCER,
        "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {
            "runId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{manifest.digest} {manifest.created}")),
            "facets": _run(manifest),
        },
        "job": {"namespace": NAMESPACE, "name": manifest.step, "facets": {"jobType": _JOB}},
        "inputs": [_input(name, digest, made) for name, digest in manifest.inputs.items()],
    }
    began = ended - timedelta(seconds=manifest.seconds)
    yield {"eventType": "START", "eventTime": began.isoformat(), **common, "outputs": [_dataset(made.path, {})]}
    yield {"eventType": "COMPLETE", "eventTime": ended.isoformat(), **common, "outputs": [_output(made)]}


def _run(manifest: Manifest) -> dict[str, Any]:
    versions = manifest.software
    engine = {
        "name": "ray",
        "version": versions.get("ray", "none"),
        "openlineageAdapterVersion": versions.get("cpt-ray", "0"),
    }
    return {
        "processing_engine": _facet("1-1-1/ProcessingEngineRunFacet", **engine),
        "cptRay_parameters": _own("ParametersRunFacet", parameters=manifest.params, stepVersion=manifest.version),
        "cptRay_ledger": _own("LedgerRunFacet", units=manifest.ledger),
    }


def _input(name: str, digest: str, made: Made) -> dict[str, Any]:
    """By its place, or where nothing of this digest is found beside the artifact, by its name and digest."""
    version = {"version": _version(digest)}
    if name in made.inputs:
        return _dataset(made.inputs[name].path, version)
    return {"namespace": NAMESPACE, "name": f"{name}/{digest}", "facets": version}


def _output(made: Made) -> dict[str, Any]:
    manifest = made.manifest
    fields = [{"name": name, "type": kind} for name, kind in manifest.columns.items()]
    facets = {"version": _version(manifest.digest)}
    facets |= {"schema": _facet("1-2-0/SchemaDatasetFacet", fields=fields)} if fields else {}
    size = sum(file.size for file in manifest.files)
    counted = _facet(
        "1-0-2/OutputStatisticsOutputDatasetFacet", rowCount=manifest.rows, size=size, fileCount=len(manifest.files)
    )
    return _dataset(made.path, facets) | {"outputFacets": {"outputStatistics": counted}}


def _dataset(path: str, facets: dict[str, Any]) -> dict[str, Any]:
    """Named as OpenLineage names files: the store, and the path in it."""
    place = urlsplit(path) if "://" in path else None
    namespace, name = (f"{place.scheme}://{place.netloc}", place.path.lstrip("/")) if place else ("file", path)
    return {"namespace": namespace, "name": name, "facets": facets}


def _version(digest: str) -> dict[str, Any]:
    return _facet("1-0-1/DatasetVersionDatasetFacet", datasetVersion=digest)


def _facet(schema: str, **values: Any) -> dict[str, Any]:
    name = schema.partition("/")[2]
    return {"_producer": PRODUCER, "_schemaURL": f"{SPEC}/facets/{schema}.json#/$defs/{name}", **values}


def _own(name: str, **values: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{PRODUCER}{OWN}{name}", **values}


_JOB = _facet("2-0-4/JobTypeJobFacet", processingType="BATCH", integration="CPT-RAY", jobType="STEP")
