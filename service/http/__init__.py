"""Bytes and headers: requests in, answers out."""
