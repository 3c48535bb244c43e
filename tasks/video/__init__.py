"""Questions on videos, and when events happen in them."""
