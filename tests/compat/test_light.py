"""Internals of libraries that are light to look at: aiohttp, MLflow, Ray's errors, PyTorch."""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path

import aiohttp
import pytest
import torch
from torch import nn

from cpt_ray.compat.aiohttp import ask_once
from cpt_ray.compat.mlflow import everywhere, hands_over_as_given
from cpt_ray.compat.obstore import store_of
from cpt_ray.compat.ray import cannot_listen, inner, started_too_slowly, unwrapped, user_error, worker_failures
from cpt_ray.compat.torch import attention_by_matrices, is_weight, move_buffers, product
from cpt_ray.errors import UserError


def test_aiohttp_asks_once_where_a_switch_says_so() -> None:
    async def make() -> tuple[object, object]:
        async with aiohttp.ClientSession() as client:
            before = client.__dict__.get("_retry_connection", "nothing of that name")
            return before, ask_once(client)._retry_connection

    assert asyncio.run(make()) == (True, False), "aiohttp.ClientSession no longer keeps `_retry_connection`"
    source = inspect.getsource(aiohttp.ClientSession)
    assert "self._retry_connection" in source.split("def _request", 1)[1], "its requests no longer go by the switch"


def test_mlflow_hands_over_what_it_was_given() -> None:
    from mlflow.models.signature import ModelSignature
    from mlflow.pyfunc import PyFuncModel
    from mlflow.types import ColSpec, DataType, Schema

    fresh = ModelSignature(inputs=Schema([ColSpec(DataType.string)]))
    assert hasattr(type(fresh), "_is_signature_from_type_hint"), "MLflow's signature no longer has this switch"
    assert hands_over_as_given(fresh)._is_signature_from_type_hint
    assert "_is_signature_from_type_hint" in inspect.getsource(PyFuncModel), "pyfunc no longer looks at it"


@pytest.mark.parametrize("environment", [None, "sqlite:///of-the-user.db"])
def test_mlflow_is_pointed_elsewhere_and_back(environment: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays: neither in the process nor in the environment that later ones inherit."""
    from mlflow import get_tracking_uri
    from mlflow.tracking._tracking_service import utils

    monkeypatch.setattr(utils, "_tracking_uri", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if environment is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    before = get_tracking_uri()
    with everywhere("sqlite:///elsewhere.db"):
        assert get_tracking_uri() == "sqlite:///elsewhere.db"
    assert get_tracking_uri() == before
    assert utils._tracking_uri is None, "MLflow keeps its tracking URI elsewhere"
    assert os.environ.get("MLFLOW_TRACKING_URI") == environment


def test_obstore_gives_the_store_behind_its_file_system(tmp_path: Path) -> None:
    from fsspec.implementations.local import LocalFileSystem
    from obstore.fsspec import FsspecStore
    from obstore.store import S3Store

    store, key = store_of(FsspecStore("s3", skip_signature=True), "bucket/a/b.json") or (None, "")  # type: ignore[abstract]
    assert isinstance(store, S3Store), "FsspecStore no longer makes its stores by `_construct_store`"
    assert key == "a/b.json", "FsspecStore splits a path otherwise"
    assert store_of(LocalFileSystem(), str(tmp_path)) is None


def test_rays_errors_hold_what_was_raised() -> None:
    """A task's error by `cause`, Ray Train's by `controller_failure`; and by rank what the workers' was."""
    from ray.exceptions import RayTaskError
    from ray.train import ControllerError, WorkerGroupError

    meant = UserError("a bad file", where="a.tsv", fix="mend it")
    task = RayTaskError("f", "traceback", meant)
    assert inner(task) is meant, "RayTaskError no longer has `cause`"
    assert inner(task.as_instanceof_cause()) is meant, "the error that ray.get raises no longer has `cause`"
    controller = ControllerError(task)
    assert inner(controller) is task, "Ray Train's ControllerError no longer has `controller_failure`"
    assert unwrapped(controller) is meant
    assert str(user_error(controller)) == str(meant)
    group = WorkerGroupError("some failed", {1: ValueError("no")})
    assert list(worker_failures(group)) == [1], "Ray Train's WorkerGroupError no longer has `worker_failures`"
    assert worker_failures(controller) == {}


def test_what_was_raised_in_a_chain_is_found_and_others_are_left_alone() -> None:
    plain = ValueError("no")
    assert inner(plain) is None
    assert unwrapped(plain) is plain
    assert user_error(plain) is None
    assert user_error(None) is None
    plain.__cause__ = UserError("below")
    assert str(user_error(plain)) == "below"


def test_ray_says_in_these_words_that_its_processes_were_slow() -> None:
    import ray._private.node

    assert started_too_slowly(Exception("the node timed out during startup. This may happen when ..."))
    assert not started_too_slowly(Exception("no space left"))
    words = "timed out during startup"
    assert words in inspect.getsource(ray._private.node), f"ray.init no longer says {words!r}"


def test_torch_moves_buffers_that_no_state_dict_has() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2))
    module[0].register_buffer("hidden", torch.ones(2), persistent=False)
    move_buffers(module, torch.device("meta"))
    devices = {name: buffer.device.type for name, buffer in module.named_buffers()}
    assert set(devices.values()) == {"meta"}, f"buffers are no longer kept in Module._buffers: {devices}"
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}


def test_torch_knows_a_view_of_a_weight() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    assert is_weight(weight)
    assert is_weight(weight.T), "a view of a parameter no longer has it as `_base`"
    assert not is_weight(weight * 2)
    assert not is_weight(torch.ones(2))


def test_torch_switches_attention_to_matrices_and_back() -> None:
    """Inside, the kernel is the plain one; afterwards all is as before, also when something is raised."""

    def state() -> tuple[bool, bool, bool]:
        kernels = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
        return *kernels, torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()

    before = state()
    with attention_by_matrices(enabled=False):
        assert state() == before
    with attention_by_matrices(enabled=True):
        assert state() == (False, False, True), "the switches for plain attention are no longer these"
    assert state() == before


@pytest.mark.parametrize("rows", [(0,), (1,), (7,), (3, 50)])
def test_torch_multiplies_by_onednn_as_it_multiplies(rows: tuple[int, ...]) -> None:
    """Any shape, weights that lie in either order, with and without a bias: within float32 of the product in float64."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(*rows, 24, generator=generator), torch.randn(40, 24, generator=generator)
    across, bias = torch.randn(24, 40, generator=generator).T, torch.randn(40, generator=generator)
    with torch.inference_mode():
        for each, added in [(weight, None), (weight, bias), (across, bias)]:
            found = product(hidden, each, added)
            want = nn.functional.linear(hidden.double(), each.double(), None if added is None else added.double())
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), want, rtol=1e-5, atol=1e-5)


def test_ray_serve_says_in_these_words_that_it_cannot_listen() -> None:
    import ray.serve._private.http_util

    assert cannot_listen(RuntimeError("Failed to bind to address '127.0.0.1:80'."))
    assert not cannot_listen(RuntimeError("no space left"))
    words = "Failed to bind to address"
    assert words in inspect.getsource(ray.serve._private.http_util), f"Ray Serve no longer says {words!r}"
