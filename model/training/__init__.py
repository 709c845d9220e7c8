"""Training of a network; never loaded to serve."""
