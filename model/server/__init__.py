"""Models behind an HTTP server, as the backend ``server`` asks them."""
