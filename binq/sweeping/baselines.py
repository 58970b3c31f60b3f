"""What binq is compared with, at equal bytes: product quantization and RaBitQ of faiss.

Their training is bounded, so that a sweep stays affordable: at most ``TRAINED`` rows and few
iterations. Trained to the end, OPQ gains up to a few points.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from binq.evaluation.statistics import recall
from binq.similarity import unusual_power
from binq.sweeping.measure import Setting
from binq.sweeping.results import Row

TRAINED: Final = 10_000
PQ_ITERATIONS: Final = 10
OPQ_ITERATIONS: Final = 5
_CENTROIDS: Final = 256
_TIMED_QUERIES: Final = 64

NOTE: Final = (
    f"faiss was trained on at most {TRAINED:,} rows with {PQ_ITERATIONS} iterations (PQ) and "
    f"{OPQ_ITERATIONS} (OPQ); trained to the end it gains up to a few points"
)


def planned(dim: int, rows: int, widths: Sequence[int]) -> list[tuple[str, int]]:
    """Return what to try as (kind, bytes of a code); nothing where faiss is not installed."""
    if find_spec("faiss") is None:
        return []
    sizes = sorted({width // 8 for width in widths if width % 8 == 0 and width // 8 <= dim})
    found = [("PQ", size) for size in sizes if rows >= _CENTROIDS]
    if dim // 8 in sizes and rows >= _CENTROIDS:
        found.append(("OPQ", dim // 8))  # the slowest to train: at the one size that all have
    if dim in widths:
        found.append(("RaBitQ", 0))
    return found


def measure(kind: str, size: int, setting: Setting) -> Iterator[Row]:
    """Train a faiss index, add the corpus, search it, and yield its row."""
    import faiss

    data = setting.data
    index, padding, _held = _index(faiss, kind, size, data.raw.shape[1], setting)
    if index is None:
        return
    # Of very large numbers its training never ends; to scale all changes no neighbour.
    power = -unusual_power(data.corpus)
    corpus = np.pad(np.ldexp(data.corpus, power), ((0, 0), (0, padding)))
    queries = np.pad(np.ldexp(data.queries, power), ((0, 0), (0, padding)))
    drawn = np.random.default_rng(setting.seed).permutation(len(corpus))[:TRAINED]
    # Its many small parallel loops wait for each other by spinning: on a busy machine one thread
    # trains several times faster than two.
    faiss.omp_set_num_threads(1)
    begun = time.perf_counter()
    index.train(corpus[np.sort(drawn)])
    trained = time.perf_counter()
    faiss.omp_set_num_threads(setting.threads)
    index.add(corpus)
    added = time.perf_counter()
    _, near = index.search(queries, setting.most_candidates)
    few = queries[:_TIMED_QUERIES]
    searched = time.perf_counter()
    index.search(few, setting.k)
    scan = time.perf_counter() - searched
    yield Row(
        kind="faiss",
        method=f"faiss {kind}",
        scoring="asymmetric",
        bytes=size or int(index.sa_code_size()),
        scan_ms=1000 * scan / len(few) / (len(corpus) / 1e6),
        fit_seconds=trained - begun,
        encode_per_second=len(corpus) / max(added - trained, 1e-9),
        **setting.recalls(recall(near[:, : setting.k], setting.truth), near),
    )


def _index(faiss: Any, kind: str, size: int, dim: int, setting: Setting) -> tuple[Any, int, Any]:
    """Return an empty index, how many zeros every vector ends with, and what it points to."""
    metric = faiss.METRIC_L2 if setting.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    if kind == "RaBitQ":
        if not hasattr(faiss, "IndexRaBitQ"):
            return None, 0, None
        rotation = faiss.RandomRotationMatrix(dim, dim)
        rotation.init(setting.seed)
        return faiss.IndexPreTransform(rotation, faiss.IndexRaBitQ(dim, metric)), 0, None
    wide = -(-dim // size) * size
    quantizer = faiss.IndexPQ(wide, size, 8, metric)
    _bound(quantizer.pq, setting.seed)
    if kind == "PQ":
        return quantizer, wide - dim, None
    rotation = faiss.OPQMatrix(dim, size, wide)
    rotation.niter = OPQ_ITERATIONS
    rotation.niter_pq = 4
    rotation.niter_pq_0 = PQ_ITERATIONS
    rotation.max_train_points = TRAINED
    inner = faiss.ProductQuantizer(wide, size, 8)
    _bound(inner, setting.seed)
    rotation.pq = inner
    return faiss.IndexPreTransform(rotation, quantizer), 0, inner


def _bound(quantizer: Any, seed: int) -> None:
    """Bound the clustering, and let it be quiet about few rows."""
    quantizer.cp.niter = PQ_ITERATIONS
    quantizer.cp.min_points_per_centroid = 1
    quantizer.cp.seed = seed
