"""The benchmark: options in, what every engine took for every task out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from binq.benchmark import hnsw, ivf
from binq.benchmark.builds import builds
from binq.benchmark.conditions import Conditions
from binq.benchmark.corpus import Corpus, latent, of_index, synthetic
from binq.benchmark.environment import PEERS, installed, machine, versions
from binq.benchmark.processes import cold_query
from binq.benchmark.race import race
from binq.benchmark.timing import Timing
from binq.errors import UsageError
from binq.index.index import Index
from binq.threads import limited
from binq.types import Progress

_TIMED: Final[dict[str, Callable[[str, Conditions], list[Timing]]]] = {
    "hamming-batch": race,
    "hamming-single": race,
    "asymmetric-batch": race,
    "asymmetric-single": race,
    "cold-query": lambda _, conditions: cold_query(conditions),
    "build": lambda _, conditions: builds(conditions),
    "ivf-batch": ivf.searches,
    "ivf-single": ivf.searches,
    "ivf-build": ivf.builds,
    "hnsw-batch": hnsw.searches,
    "hnsw-single": hnsw.searches,
    "hnsw-build": hnsw.builds,
    "hnsw-build-equal": hnsw.builds,
}
TASKS: Final = tuple(_TIMED)


def bench(
    index: str | os.PathLike[str] | None = None,
    *,
    n: int = 1_000_000,
    bits: int = 768,
    queries: int = 256,
    k: int = 10,
    tasks: Sequence[str] | None = None,
    peers: Sequence[str] | None = None,
    rounds: int = 5,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time binq beside its peers.

    Parameters
    ----------
    index : path, optional
        Search its codes; without it, made-up ones: clustered for scans, and for inverted lists
        such as do not flatter them and graphs.
    n, bits, queries, k : int
        Size of the made-up corpus, queries of a batch, hits per query.
    tasks : sequence of str, optional
        See :data:`TASKS`; None means all.
    peers : sequence of str, optional
        See :data:`PEERS`; None means those that are installed.
    rounds : int
        Rounds counted, after one that is not.
    seed : int
    threads : int, optional
        Given to every engine alike.
    progress : callable, optional
        Called with (tasks done, tasks in all).

    Returns
    -------
    dict
        As ``binq bench --json`` prints it.

    Raises
    ------
    UsageError, InputError, MissingExtraError
    """
    sizes = {"n": n, "bits": bits, "queries": queries, "k": k, "rounds": rounds}
    for name, value in sizes.items():
        if value < 1:
            raise UsageError("the number is too small", f"`{name}`", "at least 1", str(value))
    for option, names, known in (("`tasks`", tasks or (), TASKS), ("`peers`", peers or (), PEERS)):
        for name in names:
            if name not in known:
                raise UsageError("unknown name", option, ", ".join(known), name)
    chosen = installed(peers)
    rows: list[Timing] = []
    with limited(threads) as count, tempfile.TemporaryDirectory() as place:
        corpora: dict[Callable[..., Corpus], Corpus] = {}
        wanted = TASKS if tasks is None else tasks
        for done, task in enumerate(wanted):
            if progress is not None:
                progress(done, len(wanted))
            make = latent if task.startswith(("ivf", "hnsw")) else synthetic
            if index is None:
                corpus = corpora.get(make) or make(n, bits, queries, seed)
                corpora = {make: corpus}
            else:
                corpus = corpora.get(of_index) or of_index(Index(index), queries, seed)
                corpora = {of_index: corpus}
            most = min(k, len(corpus.codes))
            conditions = Conditions(corpus, most, count, rounds, chosen, Path(place), seed)
            rows += _TIMED[task](task, conditions)
    return {
        "schema": "binq.bench/1",
        "machine": machine(),
        "versions": versions(chosen),
        "threads": count,
        "rounds": rounds,
        "data": "synthetic" if index is None else os.path.basename(os.fspath(index)),
        "rows": [asdict(row) for row in rows],
    }
