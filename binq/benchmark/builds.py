"""Builds from a file, beside reading that file and nothing else."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

import numpy as np

from binq.benchmark.conditions import Conditions
from binq.benchmark.timing import Timing, in_turns, timings_of
from binq.building.build import build

_BLOCK: Final = 16_384
_MOST_ROWS: Final = 200_000


def builds(conditions: Conditions) -> list[Timing]:
    """Time builds from float32 Parquet, beside reading the same column and nothing else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    bits = conditions.corpus.bits
    n = min(len(conditions.corpus.codes), _MOST_ROWS)
    source, index = conditions.place / "vectors.parquet", conditions.place / "built.binq"
    rng = np.random.default_rng(conditions.seed)
    schema = pa.schema([("embedding", pa.list_(pa.float32(), bits))])
    with pq.ParquetWriter(source, schema, compression="none", use_dictionary=False) as writer:
        for first in range(0, n, _BLOCK):
            block = rng.standard_normal((min(_BLOCK, n - first), bits), dtype=np.float32)
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), bits)
            writer.write_table(pa.table([values], schema=schema), row_group_size=_BLOCK)

    def by_binq() -> int:
        return build(source, index, method="sign", threads=conditions.threads).rows

    def by_pyarrow() -> int:
        batches = pq.ParquetFile(source).iter_batches(65_536, columns=["embedding"])
        return sum(batch.num_rows for batch in batches)

    with ExitStack() as stack:
        before = pa.cpu_count()
        stack.callback(pa.set_cpu_count, before)
        pa.set_cpu_count(conditions.threads)
        engines = {"binq": by_binq, "pyarrow-read": by_pyarrow}
        correct = {name: work() == n for name, work in engines.items()}
        taken = in_turns(engines, conditions.rounds)
    times = {name: [1e6 * seconds / n for seconds in rounds] for name, rounds in taken.items()}
    return timings_of("build", conditions, n, dict.fromkeys(times, 0), 0, times, correct)
