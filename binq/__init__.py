"""binq: binary embeddings, from floats to bits to answers.

>>> import binq
>>> binq.build("docs.parquet", "docs.binq")  # doctest: +SKIP
>>> hits = binq.open("docs.binq").search(queries, k=10)  # doctest: +SKIP

Importing this module loads neither numpy, numba nor pyarrow: a name is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from binq.answering import query as query
    from binq.benchmark import bench as bench
    from binq.binarizers import Binarizer as Binarizer
    from binq.binarizing import binarize as binarize
    from binq.building import BuildReport as BuildReport
    from binq.building import build as build
    from binq.encoding import EncodeReport as EncodeReport
    from binq.encoding import encode as encode
    from binq.errors import BinqError as BinqError
    from binq.errors import BinqWarning as BinqWarning
    from binq.errors import CheckFailed as CheckFailed
    from binq.errors import EnvironmentFailure as EnvironmentFailure
    from binq.errors import IndexFileError as IndexFileError
    from binq.errors import InputError as InputError
    from binq.errors import MissingExtraError as MissingExtraError
    from binq.errors import UsageError as UsageError
    from binq.evaluation import Evaluation as Evaluation
    from binq.evaluation import evaluate as evaluate
    from binq.hits import Hits as Hits
    from binq.hits import RadiusHits as RadiusHits
    from binq.inspection import describe as describe
    from binq.search import Index as Index
    from binq.sweeping import Sweep as Sweep
    from binq.sweeping import sweep as sweep

    open = Index  # noqa: A001

_PLACES = {
    "Binarizer": "binq.binarizers",
    "BuildReport": "binq.building",
    "EncodeReport": "binq.encoding",
    "Evaluation": "binq.evaluation",
    "Hits": "binq.hits",
    "Index": "binq.search",
    "RadiusHits": "binq.hits",
    "bench": "binq.benchmark",
    "binarize": "binq.binarizing",
    "build": "binq.building",
    "describe": "binq.inspection",
    "encode": "binq.encoding",
    "evaluate": "binq.evaluation",
    "open": "binq.search",
    "query": "binq.answering",
    "Sweep": "binq.sweeping",
    "sweep": "binq.sweeping",
} | dict.fromkeys(
    (
        "BinqError",
        "BinqWarning",
        "CheckFailed",
        "EnvironmentFailure",
        "IndexFileError",
        "InputError",
        "MissingExtraError",
        "UsageError",
    ),
    "binq.errors",
)
__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'binq' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PLACES[name]), "Index" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
