"""Subsets chosen from finished runs, and estimates of the complete benchmark's score."""
