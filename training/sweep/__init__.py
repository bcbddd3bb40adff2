"""Sweeps: an experiment is a YAML file, every cell of its grid goes from samples to lm_eval's result files.

    factuality sweep run EXPERIMENT.yaml … [--executor local|slurm|…] [--workers N] [--dry-run]
    factuality sweep status EXPERIMENT.yaml …

A cell is a chain of stages (base, questions, sample, annotate, select, pair, train, score, distances). A stage is known
by the hash of its settings and of the stages it reads, so cells share what they have in common, a finished stage is
never run again, and a change reruns what depends on it and nothing else.
"""
