"""Structures over codes."""

from binq.index.flat import FlatIndex

__all__ = ["FlatIndex"]
