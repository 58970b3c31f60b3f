"""Build an index of as many generated rows as you like, and measure building and searching it.

Rows are generated again for each pass, so that a hundred million need only the disk that the index
takes::

    python scripts/scale.py --rows 100000000 --bits 384 --shard-rows 12500000 --kind flat
    python scripts/scale.py --rows 8000000 --shard-rows 0,1000000,125000 --kind ivf

0 stands for one file without shards. For each number an index is built in a process of its own, of
which the most anonymous memory is told (that of mapped files is the page cache's), then measured:

- ``cold``: the command ``binq query`` with one query, after the pages of the index were dropped
  (the fastest of three is ``warm``, with the pages in memory);
- ``single``: a library call with one query, the index open and what the queries look at in memory,
  median and 95th percentile;
- ``batch``: one call with all queries, the median of three;
- of lists also the share of all rows that a search compares, and ``recall``: the share of its ten
  hits that are no farther than the tenth of a search that looks into all lists.

The generator is that of :func:`binq.benchmark.corpus.latent`, drawn block by block on several
threads: 200 dimensions with scales (1 + i)^-0.5, 2,000 centres and noise, times a normal matrix, as
float16. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import binq
from binq.threads import resolve

LATENT, CENTRES, BLOCK = 200, 2_000, 16_384
# Blocks are numbered from 0; queries are drawn as one that no corpus has.
ASKED = 1 << 62
SECONDS, SINGLES, BATCHES = 10.0, 200, 3
K = 10


class Generated:
    """Float16 vectors that are made again with each pass.

    Attributes
    ----------
    shape : (rows, dim)
    threads : int
        How many blocks are made at once.
    """

    def __init__(self, rows: int, dim: int, threads: int) -> None:
        self.shape = rows, dim
        self.threads = threads
        rng = np.random.default_rng(0)
        scales = ((1 + np.arange(LATENT)) ** -0.5).astype(np.float32)
        self._centres = rng.standard_normal((CENTRES, LATENT), np.float32)
        self._matrix = scales[:, None] * rng.standard_normal((LATENT, dim), np.float32)

    def __iter__(self) -> Iterator[NDArray[np.float16]]:
        """Yield the blocks in order; some are made ahead."""
        rows = self.shape[0]
        made: deque[Future[NDArray[np.float16]]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for first in range(0, rows, BLOCK):
                    size = min(BLOCK, rows - first)
                    made.append(pool.submit(self.block, first // BLOCK, size))
                    if len(made) > 2 * self.threads:
                        yield made.popleft().result()
                while made:
                    yield made.popleft().result()
            finally:
                for block in made:
                    block.cancel()

    def block(self, number: int, rows: int) -> NDArray[np.float16]:
        """Return a block of so many rows."""
        rng = np.random.Generator(np.random.SFC64(number))
        latent = rng.standard_normal((rows, LATENT), np.float32)
        latent += self._centres[rng.integers(CENTRES, size=rows)]
        return (latent @ self._matrix).astype(np.float16)


def main() -> None:
    """Build and measure what the command line asks for."""
    options = parsed()
    if options.build is not None:
        build(options)
        return
    source = Generated(options.rows, options.bits, options.threads)
    queries = source.block(ASKED, options.queries).astype(np.float32)
    found: dict[str, Any] = {"rows": options.rows, "bits": options.bits, "cpus": options.threads}
    found |= {"load": os.getloadavg()[0], **generating(source)}
    print(json.dumps(found))
    place = Path(options.directory or tempfile.mkdtemp(prefix="binq-scale-"))
    place.mkdir(parents=True, exist_ok=True)
    try:
        for each in map(int, options.shard_rows.split(",")):
            case: dict[str, Any] = {"kind": options.kind, "shard_rows": each}
            path = place / f"{options.kind}-{options.rows}-{each}{'' if each else '.binq'}"
            if not path.exists():
                case |= built(path, each)
            case |= measured(path, queries, options.threads)
            print(json.dumps(case), flush=True)
            if not options.keep:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        if options.directory is None:
            shutil.rmtree(place)


def parsed() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--bits", type=int, default=384, help="dimensions of the vectors")
    parser.add_argument("--shard-rows", default="0", help="rows of a shard; several, by commas")
    parser.add_argument("--kind", choices=("flat", "ivf"), default="flat")
    parser.add_argument("--nlist", type=int)
    parser.add_argument("--method", default="sign")
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=resolve(None))
    parser.add_argument(
        "--directory", help="where indexes go; one that is there is measured, not built again"
    )
    parser.add_argument("--keep", action="store_true", help="leave the indexes there")
    parser.add_argument("--build", help=argparse.SUPPRESS)
    return parser.parse_args()


def generating(source: Generated) -> dict[str, Any]:
    """Return how fast rows are generated, and for how much of a core's time, over ten seconds."""
    start, before, rows = time.perf_counter(), time.process_time(), 0
    for block in source:
        rows += len(block)
        if time.perf_counter() - start > SECONDS:
            break
    seconds, cores = time.perf_counter() - start, time.process_time() - before
    return {
        "generating_rows_per_s": round(rows / seconds),
        "generating_core_s_per_million": rounded(1e6 * cores / rows),
    }


def build(options: argparse.Namespace) -> None:
    """Build the index, and print what took how long."""
    source = Generated(options.rows, options.bits, options.threads)
    start = time.perf_counter()
    last = start

    def progress(done: int, total: int | None) -> None:  # noqa: ARG001
        nonlocal last
        last = time.perf_counter()

    settings: dict[str, Any] = {"nlist": options.nlist} if options.nlist else {}
    each = int(options.shard_rows)
    report = binq.build(
        source,
        options.build,
        kind=options.kind,
        shard_rows=each or None,
        method=options.method,
        threads=options.threads,
        progress=progress,
        **settings,
    )
    end = time.perf_counter()
    print(json.dumps({"bytes": report.size, "rows_s": last - start, "after_s": end - last}))


def built(path: Path, each: int) -> dict[str, Any]:
    """Build an index in a process of its own; return the times and the most memory it took."""
    command = [sys.executable, __file__, *sys.argv[1:]]
    command += ["--shard-rows", str(each), "--build", str(path)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        while child.poll() is None:
            most = max(most, anonymous(child.pid))
            time.sleep(0.05)
        assert child.stdout is not None
        printed = child.stdout.read()
    if child.returncode:
        sys.exit(f"the build exited with {child.returncode}")
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = {name: rounded(value) for name, value in json.loads(printed).items()}
    return {
        "build_s": rounded(seconds),
        "build_core_s": rounded(cores),
        "build_anonymous_mb": round(most / 1e6),
        **told,
    }


def anonymous(process: int) -> int:
    """Return the bytes of memory of a process that no file stands behind."""
    try:
        with open(f"/proc/{process}/status") as status:
            found = [line.split()[1] for line in status if line.startswith("RssAnon")]
    except OSError:
        found = []
    return 1024 * int(found[0]) if found else 0


def measured(path: Path, queries: NDArray[np.float32], threads: int) -> dict[str, Any]:
    """Return how long searches take, as commands and as calls."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/query.npy", queries[:1])
        asked = f"{folder}/query.npy", "--threads", str(threads), "-k", str(K)
        command = [sys.executable, "-m", "binq", "query", str(path), *asked]

        def ask() -> None:
            subprocess.run(command, capture_output=True, check=True)

        drop(path)
        found = {"cold_s": rounded(timed(ask)), "warm_s": rounded(min(times(ask, BATCHES)))}
    with binq.open(path) as index:

        def search(some: NDArray[np.float32], **settings: Any) -> binq.Hits:
            return index.search(some, k=K, threads=threads, **settings)

        search(queries)  # what lists they look into is in memory from here on
        numbers = iter(range(SINGLES))

        def one() -> None:
            row = next(numbers) % len(queries)
            search(queries[row : row + 1])

        single = 1000 * np.array(times(one, SINGLES))
        found |= {
            "single_ms": rounded(float(np.median(single))),
            "single_p95_ms": rounded(float(np.percentile(single, 95))),
            "batch_s": rounded(float(np.median(times(lambda: search(queries), BATCHES)))),
        }
        if index.file.header.kind == "ivf":
            some = queries[:SINGLES]
            mine, whole = search(some), search(some, nprobe=1 << 16)
            close = mine.scores >= whole.scores[:, -1:]
            found["recall"] = rounded(float(close.mean()))
    return found


def drop(path: Path) -> None:
    """Have the pages of the files of an index dropped from memory."""
    for file in path.iterdir() if path.is_dir() else [path]:
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def times(work: Callable[[], Any], count: int) -> list[float]:
    """Return the seconds that each of some calls took; fewer, but one, where they take long."""
    taken: list[float] = []
    while len(taken) < count and sum(taken) < SECONDS:
        taken.append(timed(work))
    return taken


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rounded(value: float) -> float:
    """Return a number to four figures."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
