"""How answers are produced: backends, model families, and the bundled tiny checkpoint."""
