"""Text processing that metrics share; holds no metric."""

HOLDS_PLUGINS = False
