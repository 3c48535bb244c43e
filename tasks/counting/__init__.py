"""Counting objects in images."""
