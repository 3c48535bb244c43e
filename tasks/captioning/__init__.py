"""Image captioning benchmarks."""
