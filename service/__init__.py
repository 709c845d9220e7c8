"""HTTP in, HTTP out. Knows images and time; knows nothing of networks."""
