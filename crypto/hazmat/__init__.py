"""Encryption primitives that are easy to misuse: read their docstrings before you call them."""
