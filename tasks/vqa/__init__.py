"""Visual question answering benchmarks with short answers."""
