"""Where the network's time and memory go: `python -m model.benchmark`."""
