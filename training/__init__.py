"""From sampled answers to checkpoints: preferences, Mask-DPO and SFT, sweeps, recipes and experiments."""
