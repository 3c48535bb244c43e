"""Inference engine of the ``hf`` backend: prefix sharing, token-budget batching, continuous batching."""
