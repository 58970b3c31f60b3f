"""Whole processes that answer one query."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Final

import numpy as np

from binq import bits as packing
from binq.benchmark.by_numpy import nearest
from binq.benchmark.conditions import Conditions
from binq.benchmark.timing import Timing, timings_of
from binq.building.build import build

_FAISS_SCRIPT: Final = """
import sys
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
            str(conditions.threads),
            "--format",
            "tsv",
        ],
        "numpy-import": [sys.executable, "-c", "import numpy"],
    }
    if "faiss" in conditions.peers:
        import faiss

        flat = faiss.IndexBinaryFlat(8 * codes.shape[1])
        flat.add(codes)
        faiss.write_index_binary(flat, str(conditions.place / "cold.faiss"))
        commands["faiss"] = [
            sys.executable,
            "-c",
            _FAISS_SCRIPT,
            str(conditions.place / "cold.faiss"),
            str(query),
            str(k),
            str(conditions.threads),
        ]
    truth = nearest(corpus.codes, corpus.queries[:1], k)[1][0]
    times: dict[str, list[float]] = {name: [] for name in commands}
    correct = dict.fromkeys(commands, True)
    for turn in range(conditions.rounds + 1):
        for name, command in commands.items():
            begun = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            if turn:
                times[name].append(1000 * (time.perf_counter() - begun))
            elif name != "numpy-import":
                column = [float(line.split("\t")[-1]) for line in done.stdout.splitlines()]
                correct[name] = np.array_equal(np.abs(column), truth)
    return timings_of("cold-query", conditions, len(corpus.codes), 1, k, times, correct)
