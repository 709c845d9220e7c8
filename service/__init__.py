"""HTTP in, HTTP out. Knows images and time; knows nothing of networks."""

__version__ = "0.2.0"
