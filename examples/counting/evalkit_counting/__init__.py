"""Counting things in images: an example of a package that adds to evalkit."""
