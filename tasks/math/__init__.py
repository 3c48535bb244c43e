"""Mathematical problems with figures."""
