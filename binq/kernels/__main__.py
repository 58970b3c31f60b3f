"""``python -m binq.kernels``: compile every kernel for this CPU, once, ahead of the first use."""

from __future__ import annotations

from binq.kernels import asymmetric, descent, hamming, objects, pack, shingles

for _module in (hamming, asymmetric, pack, descent, shingles):
    objects.load(_module.FAMILY)
