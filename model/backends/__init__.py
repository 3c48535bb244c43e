"""Backends: where answers come from.  One file each."""
