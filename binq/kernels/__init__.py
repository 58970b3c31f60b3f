"""Kernels: arrays in, arrays out; no I/O, no printing, no parsing."""
