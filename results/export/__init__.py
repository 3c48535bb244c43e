"""Exports: data sets, model cards, trackers, official result files."""
