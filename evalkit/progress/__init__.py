"""Progress of a run: counters, remaining time, running score, and their display."""
