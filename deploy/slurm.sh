#!/usr/bin/env bash
# Slurm: sbatch deploy/slurm.sh [pipeline key=value ...]. `ray symmetric-run` starts Ray on every node, runs the command on
# the first once all have joined, and takes Ray down. A requeued job goes on from its artifacts.
#SBATCH --job-name=cpt-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --requeue
set -euo pipefail

export CPT_RAY_OUTPUTS="${CPT_RAY_OUTPUTS:?set it to a folder that all nodes reach}"
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
if [ "$#" -eq 0 ]; then
  set -- demo cluster=gpus "cluster.workers=$((SLURM_NNODES * 8))"
fi
# symmetric-run starts `ray` by that name, and knows of no token by itself, which the head it starts asks for: a job has its own.
export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}"
srun --kill-on-bad-exit=1 ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" -- cpt-ray "$@"
