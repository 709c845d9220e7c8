"""Annotated photos on disk, read and checked."""
