"""Metrics, one file each: they turn samples and predictions into per-sample scores and aggregates."""
