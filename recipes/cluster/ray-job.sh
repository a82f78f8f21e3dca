#!/usr/bin/env bash
# A recipe as a job of a Ray cluster that is up already (KubeRay, Anyscale, your own): recipes/cluster/ray-job.sh
# Change the lines marked <-. prefdelta must be installed on every node, and the run folder seen by all of them.
set -euo pipefail
ADDRESS=http://127.0.0.1:8265                                              # <- the cluster's dashboard
RECIPE=/shared/pda-reasoning-qwen3-8b.yaml RUN=/shared/runs/pda-reasoning  # <- as the nodes see them
ray job submit --address "$ADDRESS" -- prefdelta run "$RECIPE" -o "$RUN" --executor ray
