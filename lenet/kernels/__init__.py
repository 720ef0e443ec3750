"""Compiled kernels on raw arrays. They import nothing of the package."""
