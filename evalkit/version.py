"""The version of evalkit; a module of its own, so that what records it does not import the package's front door."""

__version__ = "0.1.0"
