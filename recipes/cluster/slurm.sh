#!/usr/bin/env bash
# A recipe on several nodes of a Slurm cluster: sbatch recipes/cluster/slurm.sh
# Change the three lines marked <-. The run folder and the environment must lie on a file system that all nodes see.
#SBATCH --job-name=prefdelta
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@60
set -euo pipefail

source "$HOME/prefdelta/.venv/bin/activate"                 # <- where `pip install 'prefdelta[ray]'` was done
export PREFDELTA_VLLM_PYTHON="$HOME/vllm/bin/python"        # <- where `pip install vllm` was done
RECIPE=recipes/pda-reasoning-qwen3-8b.yaml RUN=runs/pda-reasoning  # <-

# When the job's time is up, it is cancelled or a node fails, the same sbatch command goes on where the run was.
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
ray get-auth-token --generate >/dev/null  # in ~/.ray, which all nodes see; one that is there stays
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Slurm ends `ray symmetric-run` before it has stopped what it started, and the next job refuses to start beside that.
alone='trap "ray stop --force >/dev/null" EXIT; ray stop --force >/dev/null; "$@"'
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" bash -c "$alone" - \
  ray symmetric-run --address "$HEAD:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
  prefdelta run "$RECIPE" -o "$RUN" --executor "ray:$HEAD:6379" \
    --set resources.responses.shards=8 --set resources.test.shards=8
