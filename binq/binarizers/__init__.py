"""From floats to bits: :mod:`~binq.binarizers.affine` applies, ``fit`` finds the parameters."""

from binq.binarizers.affine import Binarizer
from binq.binarizers.fitting import METHODS, Method, fit, needs_sample
from binq.binarizers.persistence import load, save

__all__ = ["METHODS", "Binarizer", "Method", "fit", "load", "needs_sample", "save"]
