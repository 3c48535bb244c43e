"""Replacements for parts of transformers' models while the engine runs them."""
