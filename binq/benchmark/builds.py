"""Builds from a file, beside reading that file and nothing else."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Final

import numpy as np

from binq.benchmark.results import Row, rows_of
from binq.benchmark.setting import Setting
from binq.building.build import build

_BLOCK: Final = 16_384
_MOST_ROWS: Final = 200_000


def builds(setting: Setting) -> list[Row]:
    """Time builds from float32 Parquet, beside reading the same column and nothing else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    bits = setting.corpus.bits
    n = min(len(setting.corpus.codes), _MOST_ROWS)
    source, index = setting.place / "vectors.parquet", setting.place / "built.binq"
    rng = np.random.default_rng(setting.seed)
    schema = pa.schema([("embedding", pa.list_(pa.float32(), bits))])
    with pq.ParquetWriter(source, schema, compression="none", use_dictionary=False) as writer:
        for first in range(0, n, _BLOCK):
            block = rng.standard_normal((min(_BLOCK, n - first), bits), dtype=np.float32)
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), bits)
            writer.write_table(pa.table([values], schema=schema), row_group_size=_BLOCK)

    def by_binq() -> int:
        return build(source, index, method="sign", threads=setting.threads).rows

    def by_pyarrow() -> int:
        batches = pq.ParquetFile(source).iter_batches(65_536, columns=["embedding"])
        return sum(batch.num_rows for batch in batches)

    with ExitStack() as stack:
        before = pa.cpu_count()
        stack.callback(pa.set_cpu_count, before)
        pa.set_cpu_count(setting.threads)
        engines = {"binq": by_binq, "pyarrow-read": by_pyarrow}
        correct = {name: work() == n for name, work in engines.items()}
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(setting.rounds):
            for name, work in engines.items():
                begun = time.perf_counter()
                work()
                times[name].append(1e6 * (time.perf_counter() - begun) / n)
    return rows_of("build", setting, n, 0, 0, times, correct)
