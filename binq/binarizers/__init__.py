"""From floats to bits.

``binarizer`` applies a fitted map (``affine``: a projection, a sign, a linear decoder back);
``fitting`` finds one: ``thresholds`` (sign, mean, median), ``projections`` (lsh, rotate, rabitq),
``itq``, ``learned`` and ``ste``.
"""

from binq.binarizers.binarizer import Binarizer, RowTerms, Weights
from binq.binarizers.fitting import default_scoring, fit, needs_sample
from binq.binarizers.persistence import load, save

__all__ = [
    "Binarizer",
    "RowTerms",
    "Weights",
    "default_scoring",
    "fit",
    "load",
    "needs_sample",
    "save",
]
