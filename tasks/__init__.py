"""Benchmarks, one file each, in one folder per theme."""
