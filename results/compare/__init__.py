"""Comparing runs, baselines and the regression gate."""
