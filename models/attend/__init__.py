"""Attention: one function, several implementations, chosen by platform and shape."""
