"""HTTP: bytes and headers of requests and of answers. It knows no engine, no queue and no worker."""
