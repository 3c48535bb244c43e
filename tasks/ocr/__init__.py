"""Benchmarks on reading text in images."""
