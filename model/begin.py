"""What the process of a command does before it imports torch, which takes seconds and reads the environment once."""

import signal

from model.interface import host


def begin() -> None:
    """Let Ctrl+C end the process without a trace while it imports, and torch share the host with other programs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    host.set_threads()
