"""Open-ended benchmarks: answers are scored by a judge."""
