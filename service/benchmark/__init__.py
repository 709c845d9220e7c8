"""The load that a running service bears: `python -m service.benchmark`."""
