"""The choices that commands, library and file share, and their defaults; imports no numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    import os
    from typing import Any

    from numpy.typing import NDArray

Method = Literal["sign", "mean", "median", "lsh", "rotate", "itq", "rabitq", "learned", "ste"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)

Metric = Literal["cosine", "ip", "l2"]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)

Scoring = Literal["hamming", "asymmetric"]
SCORINGS: Final[tuple[Scoring, ...]] = get_args(Scoring)

Layout = Literal["ubinary", "binary", "lsb"]
"""How bits are packed into bytes, see :mod:`binq.bits`."""
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

Packed = Literal["none", "ubinary", "binary", "lsb"]
"""What 8-bit data is: numbers (none), or packed bits in that layout."""

StoredVectors = Literal["none", "int8", "float16", "float32"]
"""The vectors that an index stores for rescoring."""
STORED_VECTORS: Final[tuple[StoredVectors, ...]] = get_args(StoredVectors)

Rescore = Literal["auto", "none", "codes", "int8", "float16", "float32"]
"""What sorts the candidates of a scan."""
RESCORES: Final[tuple[Rescore, ...]] = get_args(Rescore)

Format = Literal["table", "jsonl", "tsv", "trec", "parquet"]
"""How hits are written."""

Kind = Literal["flat", "ivf", "hnsw"]
"""The structure over the codes of an index."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

Role = Literal["document", "query"]
"""Which of a model's prompts stands before a text."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)

Precision = Literal["float32", "float16", "ubinary"]
"""How embeddings are written: as floats, or one bit per dim."""
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)

TextFormat = Literal["jsonl", "csv", "tsv", "parquet", "lines"]
TEXT_FORMATS: Final[tuple[TextFormat, ...]] = get_args(TextFormat)

OnError = Literal["stop", "skip"]
"""What a row that cannot be used does: end the command there, or be left out."""
ON_ERROR: Final[tuple[OnError, ...]] = get_args(OnError)

EngineName = Literal["local", "ray"]
"""What runs the tasks of a command: this process, or a Ray cluster."""
ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)

OnTruncate = Literal["warn", "error"]
OnBlank = Literal["skip", "error"]

ID_NAMES: Final = ("id", "_id", "doc_id", "uuid", "uri", "key")
"""Columns and keys that hold ids where none is named, the first of a usable type."""

MAX_DIM: Final = 65_536
"""Most dims of a vector, and most bits of a code."""

MAX_MATRIX: Final = 1 << 28
"""Most numbers in a matrix of a binarizer, such as dims times bits."""

MAX_NORM: Final = 2.0**62
"""Longest vector that ip and l2 take: of two such, scores are far from the end of float32."""

DEFAULT_K: Final = 10
DEFAULT_OVERSAMPLE: Final = 4.0
DEFAULT_SAMPLE: Final = 100_000
DEFAULT_TARGET_RECALL: Final = 0.95
"""Of what the whole scan finds, the share that a structure looks for."""
DEFAULT_ON_ERROR: Final[OnError] = "stop"
DEFAULT_ENGINE: Final[EngineName] = "local"

Vectors: TypeAlias = "str | os.PathLike[str] | list[str] | NDArray[Any] | Iterable[NDArray[Any]]"
"""Where vectors come from: a path, several paths, "-" for stdin, a 2-D array, or an object that
yields such arrays, again with each pass."""
Progress: TypeAlias = Callable[[int, "int | None"], None]
"""Called with (done, in all or None)."""
OnWait: TypeAlias = Callable[[str, float], None]
"""Called with why something is waited for, and for how many seconds."""
Locate: TypeAlias = Callable[[int], str]
"""Names a row in messages, given its number."""
