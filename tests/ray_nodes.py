"""A Ray cluster of three nodes on this machine, drivers of it, and their deaths."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
from collections.abc import Callable
from typing import Any

import psutil

from cpt_ray.cluster import ClusterOptions

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


class Nodes:
    """A head, where drivers are, and two more nodes, each with a CPU."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args=NODE, shutdown_at_exit=False)
        for _ in range(2):
            self.cluster.add_node(**NODE)
        self.address: str = self.cluster.address
        self.options = ClusterOptions(address=self.address)

    def kill(self, choice: random.Random) -> None:
        """SIGKILL a node that is not the head, its raylet and whatever that started; another takes its place."""
        node = choice.choice(sorted(self.cluster.worker_nodes, key=lambda one: one.node_id))
        _kill(_processes(node))
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(**NODE)

    def kill_worker(self, choice: random.Random, name: str) -> bool:
        """SIGKILL a process of Ray's that has this in its title; False if there is none."""
        found = []
        for node in (self.cluster.head_node, *self.cluster.worker_nodes):
            for process in _processes(node):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += [process] if any(name in word for word in process.cmdline()) else []
        _kill(chosen := found and [choice.choice(sorted(found, key=lambda one: one.pid))])
        return bool(chosen)

    def kill_all(self) -> None:
        """SIGKILL everything, the head first."""
        nodes = [node for node in (self.cluster.head_node, *self.cluster.worker_nodes) if node is not None]
        for node in nodes:
            _kill(_processes(node))
        for node in nodes:
            node.kill_all_processes(check_alive=False, wait=True)


def _processes(node: Any) -> list[psutil.Process]:
    """Of a node, those that Ray's others were started by last."""
    found = []
    for info in (info for infos in node.all_processes.values() for info in infos):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(info.process.pid)
            found += [process, *process.children(recursive=True)]
    return found


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


class Driver:
    """`work(*arguments, joined)` in a process forked from one that has imported its module and started nothing; it sets
    the event `joined` once it has joined the cluster."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([work.__module__])
        self.joined = context.Event()
        self.process = context.Process(target=work, args=(*arguments, self.joined))
        self.process.start()

    def killed_after(self, seconds: float) -> bool:
        """SIGKILL so long after it has joined; False if it was over before."""
        while not self.joined.wait(0.05) and self.process.is_alive():
            pass
        self.process.join(seconds)
        return self.kill()

    def kill(self) -> bool:
        """SIGKILL; False if it was over before."""
        alive = self.process.exitcode is None
        self.process.kill()
        self.process.join()
        return alive

    def ends(self, seconds: float) -> int | None:
        """Its exit code, None if it is not over in time."""
        self.process.join(seconds)
        return self.process.exitcode
