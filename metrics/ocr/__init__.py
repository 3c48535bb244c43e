"""What the metrics of OCR benchmarks share."""

HOLDS_PLUGINS = False
