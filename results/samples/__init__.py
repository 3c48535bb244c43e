"""Single samples of finished runs: views, selection, text, records."""
