"""The version of evalkit, in a separate module so that recording it does not import the complete package."""

__version__ = "0.1.0"
