"""``python -m binq.kernels``: compile every kernel for this CPU, once, ahead of the first use."""

from __future__ import annotations

from binq.kernels import (
    asymmetric,
    descent,
    graph,
    hamming,
    lists,
    near_lists,
    nearest,
    pack,
    shingles,
)
from binq.kernels.aot import compile as aot

for _module in (
    hamming, asymmetric, pack, nearest, lists, near_lists, graph, descent, shingles
):  # fmt: skip
    aot.load(_module.FAMILY)
