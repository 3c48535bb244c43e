"""What ``evalkit run`` does, usable without a terminal: plan, resume, execute, record."""
