"""Expressions in, steps under a budget out."""
