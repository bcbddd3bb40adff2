"""Mask-DPO, read from top to bottom: pairs, masks, losses, logps, batches, reference, config, trainer, train."""
