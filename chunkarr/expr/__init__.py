"""Immutable nodes with shape and dtype rules; knows no plan, scheduler or numba."""
