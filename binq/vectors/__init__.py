"""Vectors in: batches of rows from any source that binq reads.

Read in this order: ``batch`` and ``refusing`` (rows, and what of them cannot be used), ``source``
(what a source is, and shards read as one), ``opening`` (which format a path has), then one module
per format; ``groups`` keeps row groups that are wanted again, ``spool`` makes a stream readable
twice, and ``prefetch`` reads ahead.
"""

from __future__ import annotations

from binq.vectors.batch import Batch
from binq.vectors.opening import has_columns, open_vectors
from binq.vectors.source import VectorSource

__all__ = ["Batch", "VectorSource", "has_columns", "open_vectors"]
