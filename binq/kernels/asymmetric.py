"""Search codes with real-valued queries.

The score of row i is ``(<w, b> + base) * mul[i] + add[i]``, b in {-1, +1} the row's code and w a
query's weights: cosine, inner product and squared distance are choices of the four.  `topk` scans
with weights of 4 bits; `exact` scores candidates in full precision.

Quantization: ``u = rint(w / step)``, `step` being the largest ``|w|`` over 7 (long codes whose
weights would add up to more than 16 bits hold take a larger one).  The scan is exact in u: its
score of a row differs from the exact one by at most ``|mul| * sum_j |w_j - step u_j|`` and the
rounding of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from binq.kernels.allowed import Bitmap, Chosen, Numbers
from binq.kernels.aot import compile as aot
from binq.kernels.lists import Lists, Visits
from binq.kernels.parts import Parts, distinct
from binq.kernels.scan import (
    MAX_ROWS,
    NO_KEY,
    Engine,
    Memory,
    Scan,
    address,
    aligned,
    brief,
    capacity_of,
    checked_rows,
    passes,
)
from binq.kernels.scan import topk as smallest_keys
from binq.kernels.tasks import tasks_of

FAMILY = aot.Family("asymmetric")

Codes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_U64 = np.dtype(np.uint64)
_F32 = np.dtype(np.float32)
_NONE = np.zeros(1, np.float32)
_SHARED = 1.4
_NO_LIMIT = np.float32(np.nan)
_LARGEST = np.finfo(np.float32).max


class Factors(NamedTuple):
    """The factor and the addend of every row, and whether there are any."""

    mul: Floats
    add: Floats
    given: int


def _units(
    library: aot.Library, weights: Floats, base: Floats, words: int
) -> tuple[Memory, tuple[int, ...]]:
    """Weights w (q, bits) as small whole numbers u, ``w ~ step * u``, and their look-up tables.

    Returns
    -------
    Memory
        Where they are.
    tuple of int
        What the scans are told of them.

    Raises
    ------
    ValueError
        `weights` or `base` are not finite.
    """
    count = len(weights)
    # Units, tables, steps, sums of absolute units, sections.
    sizes = 256 * words * count, 256 * words * count, 4 * count, 4 * count, 8 * (16 * words + 2)
    memory = Memory(*sizes)
    _, tables, steps, sums, ends = memory.addresses
    library.functions["quantize"](
        address(weights), weights.shape[1], words, count, address(base), *memory.addresses
    )
    sections = int(memory.view(4, np.int64, 1)[0])
    if sections < 0:
        raise ValueError("weights or base are not finite")
    return memory, (tables, steps, address(base), sums, ends + 8, sections)


def max_words() -> int:
    """The most words of a code: half a unit of rounding per bit, summed, has to fit 16 bits."""
    return aot.load(FAMILY).layout["scan.max_words"]


def _checked(
    codes: Codes | Parts, weights: Floats, base: Floats, mul: Floats | None, add: Floats | None
) -> tuple[Floats, Floats, Factors]:
    if isinstance(codes, np.ndarray) and not (
        codes.ndim == 2 and codes.dtype == _U64 and codes.flags.c_contiguous
    ):
        raise ValueError("codes are not a C-contiguous (n, words) array of uint64")
    if not 1 <= codes.shape[1] <= max_words():
        raise ValueError(f"codes have {codes.shape[1]} words, not 1 to {max_words()}")
    if len(codes) > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS} rows in one call")
    capacity = 64 * codes.shape[1]
    if weights.ndim != 2 or not capacity - 64 < weights.shape[1] <= capacity:
        raise ValueError(f"weights {weights.shape} for codes of {codes.shape[1]} words")
    if base.shape != (len(weights),):
        raise ValueError(f"base {base.shape} for {len(weights)} queries")
    base = np.ascontiguousarray(base, _F32)
    for name, factor in (("mul", mul), ("add", add)):
        if factor is not None and factor.shape != (len(codes),):
            raise ValueError(f"{name} {factor.shape} for {len(codes)} rows")
    factors = Factors(_NONE, _NONE, 0)
    if mul is not None or add is not None:
        mul = np.ones(len(codes), _F32) if mul is None else np.ascontiguousarray(mul, _F32)
        add = np.zeros(len(codes), _F32) if add is None else np.ascontiguousarray(add, _F32)
        factors = Factors(mul, add, 1)
    return np.ascontiguousarray(weights, _F32), base, factors


def prepared(
    library: aot.Library,
    codes: Codes | Parts,
    weights: Floats,
    base: Floats,
    factors: Factors,
    visits: Visits | None = None,
) -> Scan:
    """The scan that answers these queries, which look at some lists or at all codes, soonest."""
    memory, units = _units(library, weights, base, codes.shape[1])
    count = len(weights)
    # Two queries on every list, and they share its transposition.
    name = "scan_one" if (count if visits is None else visits.shared) < _SHARED else "scan"
    given = (address(factors.mul), address(factors.add), factors.given)
    held = (memory, base, factors)
    return Scan(library, name, codes, count, (*units, *given), _NO_LIMIT, held, cost=2)


def topk(
    codes: Codes | Parts,
    weights: Floats,
    base: Floats,
    k: int,
    mul: Floats | None = None,
    add: Floats | None = None,
    threads: int = 1,
    *,
    spans: Rows | None = None,
    allowed: Bitmap | None = None,
    numbers: Numbers | Sequence[Numbers] | None = None,
    lists: Lists | None = None,
    engine: Engine | None = None,
) -> tuple[Rows, Floats]:
    """The k rows with the highest scores, with weights of 4 bits.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous, or Parts
        A set bit is +1, a bit that is not set -1.
    weights : (q, bits) float32
        ``64 * (words - 1) < bits <= 64 * words``. Finite.
    base : (q,) float32
        Finite.
    k : int
        At least 0; more than n is n.
    mul, add : (n,) float32, optional
        Per-row factor (1) and addend (0). Finite.
    threads : int
        Threads to use.
    spans : (s, 2) int64, optional
        Ranges of rows [first, last) to scan, ascending and disjoint; all rows by default.
    allowed : (ceil(n / 64),) uint64, optional
        Bit ``r % 64`` of word ``r // 64`` says whether row r may be returned; all by default.
    numbers : (n,) uint32, optional
        The number to return for the row at every place among the codes; by default, the place.
        Everything else is of places. Of parts there is an array for each, with numbers that are
        counted from the first row of the part.
    lists : Lists, optional
        The codes that each query looks at, in place of `spans`; all by default.
    engine : Engine, optional
        What runs it; by default, kernels for this CPU.

    Returns
    -------
    rows : (q, min(k, n)) int64
    scores : (q, min(k, n)) float32
        In the order (score descending, row). Where fewer than k rows are allowed, as many columns.
        Where a query finds fewer on its lists, row -1 and minus infinity stand.

    Raises
    ------
    ValueError, TypeError
        Shapes or k do not fit, or weights are not finite.
    """
    weights, base, factors = _checked(codes, weights, base, mul, add)
    if k < 0:
        raise ValueError(f"k is {k}")
    if lists is not None:
        if spans is not None:
            raise ValueError("spans and lists")
        lists = lists.checked(len(weights))
    chosen = Chosen(len(codes), spans, allowed, numbers)
    k = min(k, chosen.count)
    engine = engine or Engine(aot.load(FAMILY))
    assert engine.library is not None
    best = np.empty((len(weights), k), np.uint64)
    for part in passes(len(weights), capacity_of(k, chosen.count) * threads, engine):
        visits = None
        if lists is not None:
            some = lists._replace(visits=lists.visits[part])
            visits = Visits(some, chosen.n, numbers is not None, False)
        scan = prepared(engine.library, codes, weights[part], base[part], factors, visits)
        if k:
            tasks = (
                tasks_of(scan, chosen, threads, engine)
                if visits is None
                else visits.tasks(scan, threads, engine)
            )
            best[part] = smallest_keys(scan, tasks, chosen, k, threads)
    rows, scores = (best & np.uint64(0xFFFFFFFF)).astype(np.int64), _scores(best)
    if lists is not None:
        missing = best == NO_KEY
        rows[missing] = -1
        scores[missing] = -np.inf
    return rows, scores


def _scores(keys: Codes) -> Floats:
    # The inverse of the order-preserving integer in `source.asymmetric_scan`.
    values = (keys >> np.uint64(32)).astype(np.uint32).view(np.int32)
    values ^= ~(values >> 31) & 0x7FFFFFFF
    scores = values.view(np.float32)
    return np.clip(scores, -_LARGEST, _LARGEST, out=scores)


def exact(
    codes: Codes | Parts,
    weights: Floats,
    base: Floats,
    rows: Rows,
    mul: Floats | None = None,
    add: Floats | None = None,
) -> Floats:
    """Scores of some rows in full precision: float64 sums in a fixed order, rounded once.

    Parameters
    ----------
    codes, weights, base, mul, add
        As in `topk`.
    rows : (q, m) int64
        For each query, row numbers in ``range(n)``.

    Returns
    -------
    (q, m) float32

    Raises
    ------
    IndexError
        A row number is out of range.
    ValueError
        Shapes do not fit, or weights are not finite.
    """
    weights, base, factors = _checked(codes, weights, base, mul, add)
    if not (np.isfinite(weights).all() and np.isfinite(base).all()):
        raise ValueError("weights or base are not finite")
    rows = checked_rows(rows, len(weights), len(codes))
    if isinstance(codes, Parts):
        chosen, rows = distinct(rows)
        codes = codes[chosen]
        if factors.given:
            factors = Factors(factors.mul[chosen], factors.add[chosen], 1)
    scores = np.empty(rows.shape, np.float32)
    if rows.size == 0:
        return scores
    library = aot.load(FAMILY)
    measure = library.functions["measure"]
    # It has a name, as it must live until the kernel has returned.
    scratch = aligned(library.layout["measure.scratch"], np.uint8)
    source = address(codes), codes.shape[1], weights.shape[1]
    given = address(factors.mul), address(factors.add), factors.given
    for part in brief(len(weights), 16 * codes.shape[1] * rows.shape[1]):
        some = rows[part]
        asked = address(weights[part]), address(base[part]), len(some)
        wanted = address(some), rows.shape[1]
        measure(*source, *asked, *wanted, *given, address(scores[part]), address(scratch))
    # What is beyond float32 is as large as that can be: infinity has no place in an answer.
    return np.clip(scores, -_LARGEST, _LARGEST, out=scores)
