"""Referring expression benchmarks: one box per expression."""
