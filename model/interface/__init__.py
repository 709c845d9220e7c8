"""What the service and every other client of an archive needs; nothing here imports torch."""
