"""Counting things in pictures: an example of a package that adds to evalkit."""
