"""Sentence-level factuality evaluation: splitting, annotation, scores, and the lm_eval tasks over them."""
