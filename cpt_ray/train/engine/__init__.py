"""Engines: DeepSpeed's ZeRO 0 to 3 (`zero`), and the single-process `reference` that tests of exactness compare with.

`protocol` is what both are, `optimiser` what both use; neither knows the other.
"""

from __future__ import annotations

from torch import nn

from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine.protocol import Engine, Put, evaluating
from cpt_ray.train.options import EngineOptions

__all__ = ["Engine", "Put", "evaluating", "make_engine"]


def make_engine(module: nn.Module, options: EngineOptions, workers: Workers) -> Engine:
    """The engine that the options ask for; implementations are imported only when they are used.

    The module trains from here on: what transformers reads from a folder comes in evaluation mode, without dropout and
    gradient checkpointing.
    """
    module.train()
    if options.engine == "reference":
        from cpt_ray.train.engine.reference import ReferenceEngine

        return ReferenceEngine(module, options, workers)
    from cpt_ray.train.engine.zero import DeepSpeedEngine

    return DeepSpeedEngine(module, options, workers)
