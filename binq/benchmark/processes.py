"""Whole processes that answer one query."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Final

import numpy as np

from binq import bits as packing
from binq.benchmark.by_numpy import nearest
from binq.benchmark.results import Row, rows_of
from binq.benchmark.setting import Setting
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


def cold_query(setting: Setting) -> list[Row]:
    """Time whole processes that answer one query of an index on disk."""
    corpus, k = setting.corpus, setting.k
    octets = packing.to_layout(corpus.codes, corpus.bits, "lsb")
    index, query = setting.place / "cold.binq", setting.place / "query.npy"
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
            str(setting.threads),
            "--format",
            "tsv",
        ],
        "numpy-import": [sys.executable, "-c", "import numpy"],
    }
    if "faiss" in setting.peers:
        import faiss

        flat = faiss.IndexBinaryFlat(8 * octets.shape[1])
        flat.add(octets)
        faiss.write_index_binary(flat, str(setting.place / "cold.faiss"))
        commands["faiss"] = [
            sys.executable,
            "-c",
            _FAISS_SCRIPT,
            str(setting.place / "cold.faiss"),
            str(query),
            str(k),
            str(setting.threads),
        ]
    truth = nearest(corpus.codes, corpus.queries[:1], k)[1][0]
    times: dict[str, list[float]] = {name: [] for name in commands}
    correct = dict.fromkeys(commands, True)
    for turn in range(setting.rounds + 1):
        for name, command in commands.items():
            begun = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            if turn:
                times[name].append(1000 * (time.perf_counter() - begun))
            elif name != "numpy-import":
                column = [float(line.split("\t")[-1]) for line in done.stdout.splitlines()]
                correct[name] = np.array_equal(np.abs(column), truth)
    return rows_of("cold-query", setting, len(corpus.codes), 1, k, times, correct)
