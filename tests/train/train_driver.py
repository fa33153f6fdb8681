"""A training run in a process of its own, for tests that kill it: `python train_driver.py <arguments as JSON>`."""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    arguments = json.loads(sys.argv[1])
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", CUDA_VISIBLE_DEVICES="")
    import ray

    from cpt_ray.model.options import ModelOptions
    from cpt_ray.train.loop import train_model
    from cpt_ray.train.options import TrainOptions

    ray.init("local", num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False)
    train_model(TrainOptions(**arguments["train"]), ModelOptions(**arguments["model"]), **arguments["places"])
    ray.shutdown()


if __name__ == "__main__":
    main()
