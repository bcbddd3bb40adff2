"""Lets `lm_eval --include_path tasks` work from a checkout that is not installed."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("harness") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from harness.lm_eval_plugin.judge import JudgeTask, JudgeTypesTask, anah_labels, biography_labels, row_labels

__all__ = ["JudgeTask", "JudgeTypesTask", "anah_labels", "biography_labels", "row_labels"]
