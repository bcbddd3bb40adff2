"""Logits of the tiny checkpoints by InternLM2's published code, as `golden.json` beside this file holds them.

    python -m tests.harness.internlm2.published FOLDER

FOLDER: a package with modeling_internlm2.py and configuration_internlm2.py of a published checkpoint (as of revision
3 of 2024, with eager attention), einops installed. Not run by the tests: that code is not part of this project.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.helpers.internlm2 import CONFIG, weights

CASES: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "plain, bias": {"rope_scaling": None, "bias": True},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "a head of keys each": {"num_key_value_heads": 8},
}
LENGTHS = (40, 100)
"""Below and above max_position_embeddings."""
SHOWN = 8
GOLDEN = Path(__file__).with_name("golden.json")


def prompt(length: int) -> torch.Tensor:
    """(1, length) token ids."""
    return torch.randint(3, 2000, (1, length), generator=torch.Generator().manual_seed(length))


def shown(logits: torch.Tensor) -> list[list[float]]:
    """The first logits of the second and the last position. logits: (positions, vocabulary)."""
    return [row[:SHOWN].float().tolist() for row in (logits[1], logits[-1])]


def main(folder: str) -> None:
    """Run the published code on every case."""
    import transformers.utils

    for gone in ("add_start_docstrings", "add_start_docstrings_to_model_forward", "replace_return_docstrings"):
        if not hasattr(transformers.utils, gone):
            setattr(transformers.utils, gone, lambda *_, **__: lambda function: function)
    path = Path(folder).resolve()
    sys.path.insert(0, str(path.parent))
    modeling = importlib.import_module(f"{path.name}.modeling_internlm2")
    kind = importlib.import_module(f"{path.name}.configuration_internlm2").InternLM2Config
    found = {}
    for name, more in CASES.items():
        settings = CONFIG | more
        own = ("architectures", "model_type", "auto_map", "attn_implementation", "rope_scaling")
        config = kind(**{key: value for key, value in settings.items() if key not in own})
        # transformers 5 rewrites these on the way in.
        config.rope_theta, config.rope_scaling = float(settings["rope_theta"]), settings["rope_scaling"]
        config.attn_implementation, config.use_cache = "eager", False
        model = modeling.InternLM2ForCausalLM(config).eval()
        for module in model.modules():
            if hasattr(module, "_init_rope"):
                module._init_rope()
        model.load_state_dict(weights(settings))
        for length in LENGTHS:
            ids = prompt(length)
            with torch.no_grad():
                answer = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, return_dict=True)
            found[f"{name}, {length} tokens"] = shown(answer.logits[0])
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
