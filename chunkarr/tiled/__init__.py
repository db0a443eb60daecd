"""Algorithms that emit their own steps: sort, Cholesky, matmul."""
