"""Mask-DPO training: preferences, token masks, losses, trainer. Not built yet; the evaluation core comes first."""
