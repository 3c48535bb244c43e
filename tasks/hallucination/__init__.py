"""Yes/no benchmarks: perception, hallucination."""
