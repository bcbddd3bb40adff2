"""Imported by the process that stages are forked from: what a stage leaves running becomes its child, and is found."""

from factuality_harness.training.sweep.process import adopt_orphans

adopt_orphans()
