"""Results of other harnesses, read for ``evalkit import``: a module for each harness, and what they share."""
