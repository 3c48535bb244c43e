"""Run folders, journals and scores on disk."""
