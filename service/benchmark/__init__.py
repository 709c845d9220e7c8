"""How many requests a running service answers: `python -m service.benchmark`."""
