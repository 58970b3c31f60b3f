"""Codes straight from text, for finding near-duplicates: simhash and 1-bit minhash.

Both look at shingles, runs of five characters of the text after Unicode normalization (NFKC), case
folding, and reducing white space and punctuation to single spaces. With ``D`` the Hamming distance
of two codes of ``B`` bits:

========  ===========================================  ====================
method    compares                                     E[D]
========  ===========================================  ====================
simhash   the angle t between vectors of counts        B * t / pi
minhash   the Jaccard similarity J of sets             B * (1 - J) / 2
========  ===========================================  ====================

Bits of minhash are independent given the texts, so that D has the standard deviation
``sqrt(B * p * (1 - p))`` with ``p = (1 - J) / 2``; those of simhash nearly so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from binq.errors import UsageError
from binq.kernels import shingles
from binq.threads import resolve
from binq.types import MAX_DIM, Role

Method = Literal["simhash", "minhash"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
SHINGLE: Final = 5

# Changes whenever the same text would get another code; recorded as the revision.
_VERSION: Final = "1"
_BATCH: Final = 2048
_GAPS: Final = re.compile(r"[\W_]+")


class FingerprintEncoder:
    """Turns text into codes for near-duplicate search; it knows nothing of meaning.

    Parameters
    ----------
    method : {"simhash", "minhash"}
        What distances stand for; see the module.
    bits : int
        Width of the codes, a multiple of 8.
    batch_size : int, optional
        See `Encoder`.
    threads : int, optional
        Default: as many as the process may use.

    Raises
    ------
    UsageError
        If the width is not a multiple of 8 from 8 to 65,536.
    """

    revision = _VERSION
    concurrency = 1

    def __init__(
        self,
        method: Method,
        bits: int,
        *,
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        if bits % 8 or not 8 <= bits <= MAX_DIM:
            raise UsageError(
                "unusable width of fingerprints",
                f"`model={method}:{bits}`",
                f"a multiple of 8 from 8 to {MAX_DIM}",
                str(bits),
            )
        self.method = method
        self.batch_size = batch_size or _BATCH
        self._threads = resolve(threads)
        self.bits: int | None = bits
        self.name = f"{method}:{bits}"
        self._functions = _hash_functions(bits)

    def encode(self, texts: Sequence[str], role: Role = "document") -> NDArray[np.uint8]:
        """Return the codes of texts: (n, bits / 8) uint8, first bit on top."""
        del role
        points, offsets = _code_points([normalized(text) for text in texts])
        return shingles.fingerprints(
            self.method, points, offsets, SHINGLE, *self._functions, self._threads
        )

    def overlong(self, texts: Sequence[str], role: Role = "document") -> NDArray[np.bool_]:
        """Return (n,) False: fingerprints read texts to their end."""
        del role
        return np.zeros(len(texts), dtype=np.bool_)

    def metadata(self, role: Role = "document") -> dict[str, str]:
        """Return method, version and the width and layout of the codes."""
        return {
            "binq.model": self.name,
            "binq.revision": self.revision,
            "binq.role": role,
            "binq.prompt": "",
            "binq.prompt.query": "",
            "binq.bits": str(self.bits),
            "binq.layout": "ubinary",
        }


def normalized(text: str) -> str:
    """Return a text as fingerprints see it: case, punctuation and spacing make no difference."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _GAPS.sub(" ", folded).strip()


def _code_points(texts: list[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(data, dtype="<u4").astype(np.uint32, copy=False), offsets


def _hash_functions(bits: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return masks and odd multipliers: (bits,) uint32 each, the first the same for every width."""
    words = np.random.PCG64(0x62696E71).random_raw(bits)
    masks = (words >> np.uint64(32)).astype(np.uint32)
    return masks, (words & np.uint64(0xFFFFFFFF)).astype(np.uint32) | np.uint32(1)
