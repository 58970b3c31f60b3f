"""From floats to bits.

``binarizer`` applies a fitted map (``affine``: a projection, a sign, a linear decoder back), and
``fitting`` finds one. ``methods`` is the table of methods, fitted by ``thresholds`` (sign, mean,
median), ``projections`` (lsh, rotate, rabitq), ``itq``, ``learned`` and ``ste``.
"""

from binq.binarizers.binarizer import Binarizer, RowTerms, Weights
from binq.binarizers.fitting import default_scoring, fit
from binq.binarizers.methods import TABLE
from binq.binarizers.persistence import load, save

__all__ = ["TABLE", "Binarizer", "RowTerms", "Weights", "default_scoring", "fit", "load", "save"]
