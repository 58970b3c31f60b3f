"""Vectors in: batches of rows from any source that binq reads.

Read in this order: ``source`` (what a source is, and shards read as one), ``locate`` (paths to
files, and their formats), then one module per format; ``spool`` makes a stream readable twice, and
``prefetch`` reads ahead.
"""

from __future__ import annotations

from binq.vectors.opening import open_vectors
from binq.vectors.prefetch import prefetched
from binq.vectors.source import Batch, VectorSource
from binq.vectors.spool import spool

__all__ = ["Batch", "VectorSource", "open_vectors", "prefetched", "spool"]
