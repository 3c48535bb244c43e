"""Scorers, one file each: samples and what was read from their answers in, per-sample scores and aggregates out."""
