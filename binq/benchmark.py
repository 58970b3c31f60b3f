"""Speed, beside peers, in one run.

Engines take turns round by round, so that a machine whose speed drifts slows all of them alike.
Every engine is checked in the same run that times it, and an engine that answers wrongly is
reported as such. A slow engine is given fewer queries: what is compared is the time per query.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from binq import __version__
from binq import bits as packing
from binq.building import build
from binq.errors import InputError, UsageError, missing_extra
from binq.kernels import asymmetric, hamming
from binq.kernels.blocks import run_blocks
from binq.search import Index
from binq.threads import limited

Task = Literal[
    "hamming-batch",
    "hamming-single",
    "asymmetric-batch",
    "asymmetric-single",
    "cold-query",
    "build",
]
Peer = Literal["faiss", "usearch", "numpy"]
TASKS: Final[tuple[Task, ...]] = get_args(Task)
PEERS: Final[tuple[Peer, ...]] = get_args(Peer)

Answer = tuple[NDArray[np.int64], NDArray[Any]]
Codes = NDArray[np.uint64]

_SINGLE_QUERIES: Final = 16
_CLUSTERS: Final = 256
_FLIP: Final = 0.2
_BLOCK: Final = 16_384
_ROUND_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Row:
    """What one engine took for one task.

    Attributes
    ----------
    engine, task : str
    n, bits, queries, k, threads : int
        ``queries`` is how many were timed at once.
    ms_per_query : dict
        ``median``, ``min`` and ``max`` over the rounds; of ``build``, milliseconds per 1,000 rows.
    ratio_to_binq : float
        Median over rounds of this engine's time over binq's in the same round.
    correct : bool
        Whether its answers were right.
    roofline : float or None
        Share of a bound, for binq's Hamming scans. Single queries: of the bandwidth of a read-only
        sum over the same bytes. Batches: of the speed of counting bits alone, with no hit kept.
    """

    engine: str
    task: str
    n: int
    bits: int
    queries: int
    k: int
    threads: int
    ms_per_query: dict[str, float]
    ratio_to_binq: float
    correct: bool
    roofline: float | None = None


@dataclass(frozen=True)
class Corpus:
    """What is searched, and what is asked.

    Attributes
    ----------
    codes : (n, words) uint64
    queries : (q, words) uint64
    bits : int
    weights : (q, bits) float32
        Float queries for the asymmetric scan.
    """

    codes: Codes
    queries: Codes
    bits: int
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class _Engine:
    """An engine, ready to answer: ``search(first, last)`` answers those queries."""

    name: str
    search: Callable[[int, int], Answer]
    check: Callable[[Answer, int, int], bool]


def synthetic(n: int, bits: int, queries: int, seed: int = 0) -> Corpus:
    """Make clustered codes: every code is one of 256 centres with a fifth of its bits flipped.

    Queries are made in the same way. The weights of a query are its bits as -1 and +1, each times
    a positive factor.
    """
    rng = np.random.default_rng(seed)
    centres = rng.random((_CLUSTERS, bits)) < 0.5

    def draw(count: int) -> NDArray[np.bool_]:
        chosen = centres[rng.integers(0, _CLUSTERS, count)]
        return chosen ^ (rng.random((count, bits), dtype=np.float32) < _FLIP)

    codes = np.empty((n, packing.words_for(bits)), np.uint64)
    for first in range(0, n, _BLOCK):
        last = min(first + _BLOCK, n)
        codes[first:last] = packing.pack(draw(last - first))
    asked = draw(queries)
    factors = rng.gamma(2.0, 1.0, asked.shape).astype(np.float32)
    weights = np.where(asked, factors, -factors)
    return Corpus(codes, packing.pack(asked), bits, weights)


def of_index(index: Index, queries: int, seed: int = 0) -> Corpus:
    """Take the codes of an index; queries are rows of it with a fifth of their bits flipped."""
    rng = np.random.default_rng(seed)
    if not len(index):
        raise InputError("the index is empty", str(index.file.path), "at least one row", "none")
    codes = index.codes.codes
    chosen = packing.unpack(codes[rng.integers(0, len(codes), queries)], index.bits)
    asked = chosen ^ (rng.random(chosen.shape) < _FLIP)
    factors = rng.gamma(2.0, 1.0, asked.shape).astype(np.float32)
    return Corpus(codes, packing.pack(asked), index.bits, np.where(asked, factors, -factors))


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
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Time binq beside its peers.

    Parameters
    ----------
    index : path, optional
        Search its codes; without it, made-up clustered ones.
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
    for option, value in (
        ("--n", n),
        ("--bits", bits),
        ("--queries", queries),
        ("-k", k),
        ("--rounds", rounds),
    ):
        if value < 1:
            raise UsageError("the number is too small", option, "at least 1", str(value))
    for option, names, known in (("--tasks", tasks or (), TASKS), ("--peers", peers or (), PEERS)):
        for name in names:
            if name not in known:
                raise UsageError("unknown name", option, ", ".join(known), name)
    chosen = _installed(peers)
    rows: list[Row] = []
    with limited(threads) as count, tempfile.TemporaryDirectory() as place:
        corpus = (
            synthetic(n, bits, queries, seed)
            if index is None
            else of_index(Index(index), queries, seed)
        )
        job = _Job(corpus, k, count, rounds, chosen, Path(place), seed)
        wanted = TASKS if tasks is None else tasks
        for done, task in enumerate(wanted):
            if progress is not None:
                progress(done, len(wanted))
            rows += job.run(task)
    return {
        "schema": "binq.bench/1",
        "machine": _machine(),
        "versions": _versions(chosen),
        "threads": count,
        "rounds": rounds,
        "data": "synthetic" if index is None else os.path.basename(os.fspath(index)),
        "rows": [asdict(row) for row in rows],
    }


@dataclass(frozen=True)
class _Job:
    """Everything that a task needs."""

    corpus: Corpus
    k: int
    threads: int
    rounds: int
    peers: tuple[str, ...]
    place: Path
    seed: int

    def run(self, task: str) -> list[Row]:
        """Run one task and return a row per engine, binq's first."""
        if task == "cold-query":
            return self._processes()
        if task == "build":
            return self._builds()
        scan, size = task.split("-")
        engines = self._hamming() if scan == "hamming" else self._asymmetric()
        single = size == "single"
        asked = (
            min(_SINGLE_QUERIES, len(self.corpus.queries)) if single else len(self.corpus.queries)
        )
        return self._race(task, engines, asked, single)

    def _race(self, task: str, engines: list[_Engine], asked: int, single: bool) -> list[Row]:
        """Let engines answer in turns."""
        given, correct = {}, {}
        for engine in engines:
            first = min(4, asked)
            found = engine.search(0, first)
            correct[engine.name] = engine.check(found, 0, first)
            # As many queries as a round has time for: more at once take less time each.
            while 2 * _seconds(engine, first, single) < _ROUND_SECONDS and first < asked:
                first = min(2 * first, asked)
            given[engine.name] = first
        times: dict[str, list[float]] = {engine.name: [] for engine in engines}
        bounds = []
        for turn in range(self.rounds):
            for engine in engines[turn % len(engines) :] + engines[: turn % len(engines)]:
                count = given[engine.name]
                times[engine.name].append(1000 * _seconds(engine, count, single) / count)
            bounds.append(self._bound(single))
        corpus = self.corpus
        reached = statistics.median(
            bound / own for bound, own in zip(bounds, times[engines[0].name], strict=True)
        )
        return [
            Row(
                engine.name,
                task,
                len(corpus.codes),
                corpus.bits,
                1 if single else given[engine.name],
                min(self.k, len(corpus.codes)),
                self.threads,
                _spread(times[engine.name]),
                _ratio(times[engine.name], times[engines[0].name]),
                correct[engine.name],
                round(reached, 3) if engine is engines[0] and task.startswith("hamming") else None,
            )
            for engine in engines
        ]

    def _bound(self, single: bool) -> float:
        """Return the milliseconds per query that the hardware allows."""
        if single:
            parts = np.array_split(self.corpus.codes, self.threads)
            begun = time.perf_counter()
            run_blocks(self.threads, self.threads, lambda _, block: parts[block].sum())
            return 1000 * (time.perf_counter() - begun)
        queries = self.corpus.queries
        begun = time.perf_counter()
        hamming.count_within(
            self.corpus.codes, queries, np.full(len(queries), -1, np.int64), self.threads
        )
        return 1000 * (time.perf_counter() - begun) / len(queries)

    def _hamming(self) -> list[_Engine]:
        codes, queries = self.corpus.codes, self.corpus.queries
        k = min(self.k, len(codes))
        octets = packing.to_layout(codes, self.corpus.bits, "lsb")
        asked = packing.to_layout(queries, self.corpus.bits, "lsb")
        truth = _nearest(codes, queries[:4], k)[1]

        def check(answer: Answer, first: int, last: int) -> bool:
            return bool(np.array_equal(np.sort(answer[1], axis=1), truth[first:last]))

        engines = [
            _Engine("binq", lambda i, j: hamming.topk(codes, queries[i:j], k, self.threads), check)
        ]
        if "faiss" in self.peers:
            import faiss

            faiss.omp_set_num_threads(self.threads)
            flat = faiss.IndexBinaryFlat(8 * octets.shape[1])
            flat.add(octets)

            def by_faiss(i: int, j: int) -> Answer:
                distances, rows = flat.search(asked[i:j], k)
                return rows, distances

            engines.append(_Engine("faiss", by_faiss, check))
        if "usearch" in self.peers:
            from usearch.index import MetricKind, search  # type: ignore[attr-defined]

            def by_usearch(i: int, j: int) -> Answer:
                found = search(
                    octets, asked[i:j], k, MetricKind.Hamming, exact=True, threads=self.threads
                )
                shape = (j - i, k)
                return np.reshape(found.keys, shape), np.reshape(found.distances, shape)

            engines.append(_Engine("usearch", by_usearch, check))
        if "numpy" in self.peers:
            engines.append(_Engine("numpy", lambda i, j: _nearest(codes, queries[i:j], k), check))
        return engines

    def _asymmetric(self) -> list[_Engine]:
        codes, weights = self.corpus.codes, self.corpus.weights
        k = min(self.k, len(codes))
        base = np.zeros(len(weights), np.float32)
        truth = _best_scores(self.corpus, weights[:4], k)

        def check(answer: Answer, first: int, last: int) -> bool:
            # Weights are rounded in every engine: the hits must be nearly as good as the best.
            rows = np.asarray(answer[0], np.int64)
            found = asymmetric.exact(codes, weights[first:last], base[first:last], rows)
            return bool((found.mean(axis=1) >= 0.97 * truth[first:last].mean(axis=1)).all())

        engines = [
            _Engine(
                "binq",
                lambda i, j: asymmetric.topk(
                    codes, weights[i:j], base[i:j], k, threads=self.threads
                ),
                check,
            )
        ]
        if "faiss" in self.peers:
            import faiss

            faiss.omp_set_num_threads(self.threads)
            for name, kind in (
                ("faiss-rabitq", faiss.IndexRaBitQ),
                ("faiss-rabitqfs", faiss.IndexRaBitQFastScan),
            ):
                flat = kind(self.corpus.bits, faiss.METRIC_INNER_PRODUCT)
                flat.qb = 4
                flat.train(_signs(codes[:20_000], self.corpus.bits))
                for start in range(0, len(codes), _BLOCK):
                    flat.add(_signs(codes[start : start + _BLOCK], self.corpus.bits))

                def by_faiss(i: int, j: int, flat: Any = flat) -> Answer:
                    scores, rows = flat.search(weights[i:j], k)
                    return rows, scores

                engines.append(_Engine(name, by_faiss, check))
        if "numpy" in self.peers:

            def by_numpy(i: int, j: int) -> Answer:
                scores = np.concatenate(
                    [
                        weights[i:j] @ _signs(codes[start : start + _BLOCK], self.corpus.bits).T
                        for start in range(0, len(codes), _BLOCK)
                    ],
                    axis=1,
                )
                rows = np.argpartition(-scores, k - 1, axis=1)[:, :k]
                return rows, np.take_along_axis(scores, rows, axis=1)

            engines.append(_Engine("numpy", by_numpy, check))
        return engines

    def _processes(self) -> list[Row]:
        """Time whole processes that answer one query of an index on disk."""
        corpus, k = self.corpus, min(self.k, len(self.corpus.codes))
        octets = packing.to_layout(corpus.codes, corpus.bits, "lsb")
        index, query = self.place / "cold.binq", self.place / "query.npy"
        build(octets, index, packed="lsb", bits=corpus.bits)
        np.save(query, packing.to_layout(corpus.queries[:1], corpus.bits, "lsb"))
        commands = {
            "binq": [
                sys.executable,
                "-m",
                "binq",
                "query",
                str(index),
                str(query),
                "--packed",
                "lsb",
                "-k",
                str(k),
                "--threads",
                str(self.threads),
                "--format",
                "tsv",
            ],
            "numpy-import": [sys.executable, "-c", "import numpy"],
        }
        if "faiss" in self.peers:
            import faiss

            flat = faiss.IndexBinaryFlat(8 * octets.shape[1])
            flat.add(octets)
            faiss.write_index_binary(flat, str(self.place / "cold.faiss"))
            commands["faiss"] = [
                sys.executable,
                "-c",
                _FAISS_SCRIPT,
                str(self.place / "cold.faiss"),
                str(query),
                str(k),
                str(self.threads),
            ]
        truth = _nearest(corpus.codes, corpus.queries[:1], k)[1][0]
        times: dict[str, list[float]] = {name: [] for name in commands}
        correct = dict.fromkeys(commands, True)
        for turn in range(self.rounds + 1):
            for name, command in commands.items():
                begun = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                if turn:
                    times[name].append(1000 * (time.perf_counter() - begun))
                elif name != "numpy-import":
                    column = [float(line.split("\t")[-1]) for line in done.stdout.splitlines()]
                    correct[name] = np.array_equal(np.abs(column), truth)
        return [
            Row(
                name,
                "cold-query",
                len(corpus.codes),
                corpus.bits,
                1,
                k,
                self.threads,
                _spread(times[name]),
                _ratio(times[name], times["binq"]),
                correct[name],
            )
            for name in commands
        ]

    def _builds(self) -> list[Row]:
        """Time builds from float32 Parquet, beside reading the same column and nothing else."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        bits = self.corpus.bits
        n = min(len(self.corpus.codes), 200_000)
        source, index = self.place / "vectors.parquet", self.place / "built.binq"
        rng = np.random.default_rng(self.seed)
        schema = pa.schema([("embedding", pa.list_(pa.float32(), bits))])
        with pq.ParquetWriter(source, schema, compression="none", use_dictionary=False) as writer:
            for first in range(0, n, _BLOCK):
                block = rng.standard_normal((min(_BLOCK, n - first), bits), dtype=np.float32)
                values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), bits)
                writer.write_table(pa.table([values], schema=schema), row_group_size=_BLOCK)

        def by_binq() -> int:
            return build(source, index, method="sign", threads=self.threads).rows

        def by_pyarrow() -> int:
            batches = pq.ParquetFile(source).iter_batches(65_536, columns=["embedding"])
            return sum(batch.num_rows for batch in batches)

        with ExitStack() as stack:
            before = pa.cpu_count()
            stack.callback(pa.set_cpu_count, before)
            pa.set_cpu_count(self.threads)
            engines = {"binq": by_binq, "pyarrow-read": by_pyarrow}
            correct = {name: work() == n for name, work in engines.items()}
            times: dict[str, list[float]] = {name: [] for name in engines}
            for _ in range(self.rounds):
                for name, work in engines.items():
                    begun = time.perf_counter()
                    work()
                    times[name].append(1e6 * (time.perf_counter() - begun) / n)
        return [
            Row(
                name,
                "build",
                n,
                bits,
                0,
                0,
                self.threads,
                _spread(times[name]),
                _ratio(times[name], times["binq"]),
                correct[name],
            )
            for name in engines
        ]


def _seconds(engine: _Engine, count: int, single: bool) -> float:
    """Return the time that so many queries take, one by one or all at once."""
    begun = time.perf_counter()
    if single:
        for number in range(count):
            engine.search(number, number + 1)
    else:
        engine.search(0, count)
    return time.perf_counter() - begun


_FAISS_SCRIPT: Final = """
import sys
import numpy, faiss
faiss.omp_set_num_threads(int(sys.argv[4]))
index = faiss.read_index_binary(sys.argv[1])
distances, rows = index.search(numpy.load(sys.argv[2]), int(sys.argv[3]))
for row, distance in zip(rows[0], distances[0]):
    print(row, distance, sep="\\t")
"""


def _nearest(codes: Codes, queries: Codes, k: int) -> Answer:
    """Find neighbours with numpy; returns rows and distances, both (q, k)."""
    rows = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.int64)
    for number, query in enumerate(queries):
        found = np.concatenate(
            [
                np.bitwise_count(codes[start : start + _BLOCK] ^ query).sum(axis=1, dtype=np.int64)
                for start in range(0, len(codes), _BLOCK)
            ]
        )
        near = np.argpartition(found, k - 1)[:k]
        rows[number] = near[np.argsort(found[near], kind="stable")]
        distances[number] = found[rows[number]]
    return rows, distances


def _signs(codes: Codes, bits: int) -> NDArray[np.float32]:
    """Return codes as -1 and +1, (n, bits) float32."""
    return np.where(packing.unpack(codes, bits), np.float32(1), np.float32(-1))


def _best_scores(corpus: Corpus, weights: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Return the k best exact scores of every query, (q, k) float32."""
    best = np.empty((len(weights), 0), np.float32)
    for start in range(0, len(corpus.codes), _BLOCK):
        scores = weights @ _signs(corpus.codes[start : start + _BLOCK], corpus.bits).T
        best = np.concatenate([best, scores], axis=1)
        if best.shape[1] > k:
            best = -np.partition(-best, k - 1, axis=1)[:, :k]
    return best


def _spread(times: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(times), 5),
        "min": round(min(times), 5),
        "max": round(max(times), 5),
    }


def _ratio(times: list[float], own: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(times, own, strict=True)), 3)


def _installed(peers: Sequence[str] | None) -> tuple[str, ...]:
    """Return the peers that can be had.

    Raises
    ------
    MissingExtraError
        If one that was asked for is not installed.
    """
    packages = {"faiss": "faiss-cpu", "usearch": "usearch", "numpy": "numpy"}
    found: list[str] = []
    for peer in PEERS if peers is None else peers:
        try:
            version(packages[peer])
        except PackageNotFoundError as error:
            if peers is not None:
                raise missing_extra(packages[peer], "peers", f"--peers {peer}") from error
        else:
            found.append(peer)
    return tuple(found)


def _versions(peers: Sequence[str]) -> dict[str, str]:
    packages = {"faiss": "faiss-cpu", "usearch": "usearch", "numpy": "numpy"}
    names = dict.fromkeys(["numpy", "llvmlite", "pyarrow", *(packages[peer] for peer in peers)])
    return {"binq": __version__, "python": platform.python_version()} | {
        name: version(name) for name in names
    }


def _machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {"cpu": model, "cpus": os.cpu_count(), "system": platform.platform()}
