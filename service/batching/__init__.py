"""Which images go to a device next, and which of them together."""
