"""Lets `lm_eval --include_path tasks` work from a checkout that is not installed."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("harness") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from harness.lm_eval_plugin.factscore import AnahFactScoreTask, FactScoreTask, entities_dataset
from harness.lm_eval_plugin.task import anah_dataset, mini_dataset

__all__ = ["AnahFactScoreTask", "FactScoreTask", "anah_dataset", "entities_dataset", "mini_dataset"]
