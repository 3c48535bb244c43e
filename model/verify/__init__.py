"""Checks of a checkpoint: files, weights, one forward pass."""
