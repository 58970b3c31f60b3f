"""Kernels compiled ahead of time: compiled once per CPU, kept, loaded without numba."""
