"""binq: binary embeddings, from floats to bits to answers.

>>> import binq
>>> binq.build("docs.parquet", "docs.binq")            # doctest: +SKIP
>>> hits = binq.open("docs.binq").search(queries, k=10)  # doctest: +SKIP

Importing this module loads neither numpy, numba nor pyarrow: a name is imported when it is used.
"""

from __future__ import annotations

__version__ = "0.1.0"
