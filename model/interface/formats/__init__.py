"""Image files, format by format: what each kind asks for, which kinds are refused, and fast ways to its pixels."""
