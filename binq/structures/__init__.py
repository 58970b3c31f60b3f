"""Structures over codes: what finds candidates. A new one is a module here and a row below."""

from __future__ import annotations

from typing import Final

from binq.structures.flat import Flat
from binq.structures.ivf import Ivf
from binq.types import Kind

STRUCTURES: Final[dict[Kind, type[Flat] | type[Ivf]]] = {"flat": Flat, "ivf": Ivf}
"""By the kind that the file names."""
