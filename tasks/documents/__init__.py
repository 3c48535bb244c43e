"""Benchmarks on documents, infographics and charts."""
