"""The fact world: fictional topics, the sentences about them, an exact judge's references, and a tiny base model.

A test bed in which the whole loop (sample, label, pair, train, score) runs offline in minutes and every label is exact.
It is no benchmark: nothing in it says how factual a real model is.
"""

from factuality_harness.harness.world.generate import BaseConfig, Topic, World, WorldConfig, world_of

__all__ = ["BaseConfig", "Topic", "World", "WorldConfig", "world_of"]
