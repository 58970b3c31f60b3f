"""What recall will be on more rows than were looked at, from what it is on fewer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from binq.evaluation.statistics import Estimate

_CENTRE: Final = 2


def extrapolate(measured: Estimate, smaller: Sequence[float], growth: float, hits: int) -> Estimate:
    """Extrapolate recall in the number of rows.

    Recall moves about evenly with the logarithm of the number of rows once it is written as
    log(r / (1 - r)), though not quite, and in either direction: more rows bring nearer neighbours,
    and more rivals. The figure goes on by the mean of the last two steps a doubling. Its interval
    is that of the measured one, moved by the smallest and by the largest step that was seen, each
    going further by the difference of the two with every doubling; where there are no two steps,
    anything is possible.

    Parameters
    ----------
    measured : Estimate
        Recall on the most rows looked at.
    smaller : sequence of float
        Recall on half as many rows, on a quarter, and so on.
    growth : float
        How many times as many rows it shall be said for.
    hits : int
        True neighbours looked for, of all queries: a recall of 0 or 1 is taken for half a hit more
        or less.

    Returns
    -------
    Estimate
        The figure with its interval.
    """

    def odds(share: float) -> float:
        least = 0.5 / hits
        share = min(max(share, least), 1 - least)
        return math.log(share / (1 - share))

    def share(value: float) -> float:
        return 1 / (1 + math.exp(-max(min(value, 700.0), -700.0)))

    heights = [odds(value) for value in (measured.value, *smaller)]
    steps = [larger - less for larger, less in pairwise(heights)]
    if len(steps) < _CENTRE:
        return Estimate(measured.value, 0.0, 1.0)
    doublings = math.log2(growth)
    spread = (max(steps) - min(steps)) * max(1.0, (1 + doublings) / 2)
    value = share(heights[0] + doublings * sum(steps[:_CENTRE]) / _CENTRE)
    low = share(odds(measured.low) + doublings * (min(steps) - spread))
    high = share(odds(measured.high) + doublings * (max(steps) + spread))
    return Estimate(value, low, high)
