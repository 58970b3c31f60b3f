"""What every task is run with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from binq.benchmark.corpus import Corpus


@dataclass(frozen=True)
class Conditions:
    """What every task is run with.

    Attributes
    ----------
    corpus : Corpus
    k : int
        Hits per query, at most as many as there are codes.
    threads : int
        Given to every engine alike.
    rounds : int
        Rounds counted.
    peers : tuple of str
        Those that binq is compared with.
    place : Path
        A folder for files that are gone after the run.
    seed : int
    """

    corpus: Corpus
    k: int
    threads: int
    rounds: int
    peers: tuple[str, ...]
    place: Path
    seed: int
