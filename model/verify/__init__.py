"""Checks of a checkpoint: files, weights, one forward pass, a few generated tokens."""
