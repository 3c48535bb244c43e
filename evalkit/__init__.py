"""evalkit: the scores the official scorers give, for vision-language models."""

__version__ = "0.1.0"
