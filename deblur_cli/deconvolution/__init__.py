"""Blur kernels: estimated from a photo alone, and undone."""
