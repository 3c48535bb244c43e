"""Finding all objects of some categories."""
