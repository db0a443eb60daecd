"""What runs on a chunk: NumPy in cache-sized pieces, or generated Numba loops."""
