"""Screens and what to click on them."""
