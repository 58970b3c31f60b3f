"""binq: binary embeddings, from floats to bits to answers.

>>> import binq
>>> binq.build("docs.parquet", "docs.binq")  # doctest: +SKIP
>>> hits = binq.open("docs.binq").search(queries, k=10)  # doctest: +SKIP

Importing this module loads neither numpy, numba nor pyarrow: a name is imported when it is used.
"""

from __future__ import annotations

from binq.version import __version__ as __version__

# As in typing, which takes longer to load than all else before the command sees to signals.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from binq.benchmark.bench import bench as bench
    from binq.binarizers import Binarizer as Binarizer
    from binq.building.binarize import binarize as binarize
    from binq.building.build import BuildReport as BuildReport
    from binq.building.build import build as build
    from binq.building.compact import CompactReport as CompactReport
    from binq.building.compact import compact as compact
    from binq.errors import BinqError as BinqError
    from binq.errors import BinqWarning as BinqWarning
    from binq.errors import CheckFailed as CheckFailed
    from binq.errors import EnvironmentFailure as EnvironmentFailure
    from binq.errors import IndexFileError as IndexFileError
    from binq.errors import InputError as InputError
    from binq.errors import MissingExtraError as MissingExtraError
    from binq.errors import UsageError as UsageError
    from binq.evaluation.evaluate import evaluate as evaluate
    from binq.evaluation.results import Evaluation as Evaluation
    from binq.index.describe import describe as describe
    from binq.index.index import Index as Index
    from binq.index.stream import Unanswered as Unanswered
    from binq.index.stream import query as query
    from binq.search.hits import Hits as Hits
    from binq.search.hits import RadiusHits as RadiusHits
    from binq.sweeping.results import Sweep as Sweep
    from binq.sweeping.sweep import sweep as sweep
    from binq.text.encode import encode as encode
    from binq.text.options import EncodeReport as EncodeReport

    open = Index  # noqa: A001

_PLACES = {
    "Binarizer": "binq.binarizers",
    "BuildReport": "binq.building.build",
    "EncodeReport": "binq.text.options",
    "CompactReport": "binq.building.compact",
    "Evaluation": "binq.evaluation.results",
    "Hits": "binq.search.hits",
    "Index": "binq.index.index",
    "RadiusHits": "binq.search.hits",
    "Unanswered": "binq.index.stream",
    "bench": "binq.benchmark.bench",
    "binarize": "binq.building.binarize",
    "build": "binq.building.build",
    "compact": "binq.building.compact",
    "describe": "binq.index.describe",
    "encode": "binq.text.encode",
    "evaluate": "binq.evaluation.evaluate",
    "open": "binq.index.index",
    "query": "binq.index.stream",
    "Sweep": "binq.sweeping.results",
    "sweep": "binq.sweeping.sweep",
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
# Not ``open``: a star import would take the builtin's place.
__all__ = ["__version__", *(name for name in _PLACES if name != "open")]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'binq' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PLACES[name]), "Index" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])
