#!/usr/bin/env bash
# For who reruns a table of the paper: an experiment file is the whole of it, seeds and scoring included.
#
#     examples/rerun_table.sh                                                 # table 2 in the fact world
#     EXPERIMENT=llama31-8b/table02_mask.yaml STORE=/shared/sweep WORKERS=8 \
#       SLURM='partition=gpu gpus_per_node=4 time=1440' examples/rerun_table.sh
#
# Interrupted or changed, run it again: finished stages are kept, and only what depends on a change is run.
set -euo pipefail
EXPERIMENT=${EXPERIMENT:-world/table02_mask.yaml}   # a shipped experiment, or a file of your own
STORE=${STORE:-out/sweeps/world}                    # shared by all experiments that have stages in common
WORKERS=${WORKERS:-$(nproc)}                        # processes, or Slurm jobs
SLURM=${SLURM:-}                                    # options of sbatch; empty: this machine
OUT=${OUT:-out/examples/rerun_table}

# 1. What there is to do, how long it may take and what is missing, before anything runs.
factuality sweep run "$EXPERIMENT" --store "$STORE" --workers "$WORKERS" --dry-run

# 2. Run it.
if [ -n "$SLURM" ]; then
  # shellcheck disable=SC2086  # several options in one variable
  factuality sweep run "$EXPERIMENT" --store "$STORE" --workers "$WORKERS" --executor slurm --slurm $SLURM
else
  factuality sweep run "$EXPERIMENT" --store "$STORE" --workers "$WORKERS"
fi

# 3. The few small files that a paper or a commit needs, then everything that is made of them.
factuality collect --results "$STORE" --out "$OUT"
factuality tables --results "$OUT"     # ours beside the published numbers; --trace leads from a cell to its commands
factuality figures --results "$OUT"
