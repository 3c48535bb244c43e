"""Models: backends, the inference engine, model families, and the bundled checkpoint."""
