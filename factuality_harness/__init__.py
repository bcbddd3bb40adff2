"""Sentence-level factuality of language models: evaluation (`harness`, `tasks`), Mask-DPO (`training`), `analysis`.

In a checkout the folders beside this file are links to the repository's top-level ones, so Python, type checkers and
editors resolve `factuality_harness.training.…` alike; the wheel holds the folders themselves in their place.
"""
