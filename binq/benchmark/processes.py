"""Whole processes that answer one query."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Final

import numpy as np

from binq import bits as packing
from binq.benchmark.by_numpy import nearest
from binq.benchmark.conditions import Conditions
from binq.benchmark.timing import Timing, in_turns, timings_of
from binq.building.build import build

_FAISS_SCRIPT: Final = """
import sys
from functools import partial
import numpy, faiss
faiss.omp_set_num_threads(int(sys.argv[4]))
index = faiss.read_index_binary(sys.argv[1])
distances, rows = index.search(numpy.load(sys.argv[2]), int(sys.argv[3]))
for row, distance in zip(rows[0], distances[0]):
    print(row, distance, sep="\\t")
"""


def cold_query(conditions: Conditions) -> list[Timing]:
    """Time whole processes that answer one query of an index on disk."""
    corpus, k = conditions.corpus, conditions.k
    codes = packing.to_layout(corpus.codes, corpus.bits, "lsb")
    index, query = conditions.place / "cold.binq", conditions.place / "query.npy"
    build(codes, index, packed="lsb", bits=corpus.bits)
    np.save(query, packing.to_layout(corpus.queries[:1], corpus.bits, "lsb"))
    options = f"--packed lsb -k {k} --threads {conditions.threads} --format tsv"
    ask = [sys.executable, "-m", "binq", "query", str(index), str(query), *options.split()]
    commands = {"binq": ask, "numpy-import": [sys.executable, "-c", "import numpy"]}
    if "faiss" in conditions.peers:
        import faiss

        flat = faiss.IndexBinaryFlat(8 * codes.shape[1])
        flat.add(codes)
        faiss.write_index_binary(flat, str(conditions.place / "cold.faiss"))
        given = (conditions.place / "cold.faiss", query, k, conditions.threads)
        commands["faiss"] = [sys.executable, "-c", _FAISS_SCRIPT, *map(str, given)]
    truth = nearest(corpus.codes, corpus.queries[:1], k)[1][0]

    def run(command: list[str]) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    correct = {}
    for name, command in commands.items():
        column = [float(line.split("\t")[-1]) for line in run(command).splitlines()]
        correct[name] = name == "numpy-import" or np.array_equal(np.abs(column), truth)
    works = {name: partial(run, command) for name, command in commands.items()}
    taken = in_turns(works, conditions.rounds)
    times = {name: [1000 * seconds for seconds in rounds] for name, rounds in taken.items()}
    n, asked = len(corpus.codes), dict.fromkeys(times, 1)
    return timings_of("cold-query", conditions, n, asked, k, times, correct)
