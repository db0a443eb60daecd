"""NumPy's names in, expressions out: one file per NumPy chapter."""
