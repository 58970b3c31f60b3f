"""The header of an index file: one JSON object; docs/format.md specifies it and all other bytes."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
import xxhash

from binq.storage import features
from binq.storage.preamble import (
    HEADER_LIMIT,
    LENGTH_LIMIT,
    PREAMBLE_SIZE,
    Preamble,
    corrupt,
    made_by_newer,
)
from binq.types import KINDS, LAYOUTS, MAX_DIM, METRICS, SCORINGS, STORED_VECTORS

if TYPE_CHECKING:
    from binq.vectors.ids import IdType

CHUNK: Final = 1 << 20
ALIGNMENT: Final = 64
CODES_ALIGNMENT: Final = 4096

_DTYPES_OF_1_0: Final = (
    "uint8", "int8", "uint64", "int64", "float16", "float32", "float64"
)  # fmt: skip
DTYPES: Final = {name: np.dtype(name).newbyteorder("<") for name in (*_DTYPES_OF_1_0, "uint32")}

TYPED_IDS: Final = ("int64", "uint64")

_FEATURE_NAME = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,63}")
_MOST_NAMED: Final = 12

T = TypeVar("T")


def align(offset: int, alignment: int = ALIGNMENT) -> int:
    """Return the first multiple of ``alignment`` that is not below ``offset``."""
    return -(-offset // alignment) * alignment


def chunks_in(length: int) -> int:
    """Return the number of checksummed chunks in a section of ``length`` bytes."""
    return -(-length // CHUNK)


@dataclass(frozen=True)
class Section:
    """A named array in the file; ``offset`` and ``length`` in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The little-endian numpy dtype."""
        return DTYPES[self.dtype]

    def to_json(self) -> dict[str, Any]:
        """Return the header's entry for this section."""
        return vars(self) | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, entry: object) -> Section:
        """Read an entry of the header, checking that length, shape and dtype agree."""
        name = member(entry, "name", str)
        where = f"section {name}"
        dtype = member(entry, "dtype", str, where)
        if dtype not in DTYPES:
            raise corrupt(f"{where} dtype", " or ".join(DTYPES), dtype)
        shape = tuple(whole(size, f"{where} shape") for size in member(entry, "shape", list, where))
        if not 1 <= len(shape) <= 4:
            raise corrupt(f"{where} shape", "1 to 4 axes", len(shape))
        offset = whole(member(entry, "offset", int, where), f"{where} offset")
        length = whole(member(entry, "length", int, where), f"{where} length")
        expected = extent = DTYPES[dtype].itemsize
        for size in shape:
            expected *= size
            extent *= max(size, 1)
        # An axis of zero makes the length zero whatever the others are; they are bounded too.
        if length != expected or extent > LENGTH_LIMIT:
            raise corrupt(f"{where} length", expected, length)
        return cls(name, dtype, shape, offset, length)


@dataclass(frozen=True)
class Header:
    """What an index says of itself: all that a query needs in order not to be silently wrong.

    Attributes
    ----------
    rows : int
        Number of codes, n.
    dim : int
        Dimensions of the float vectors; of an index built from bits, the number of bits.
    bits, words : int
        Width of a code, and the uint64 words that hold it.
    kind : {"flat", "ivf", "hnsw"}
        The structure over the codes.
    metric : {"cosine", "ip", "l2"}
        What truth and rescoring mean.
    scoring : {"hamming", "asymmetric"}
        The scan that the index was built for.
    binarizer : dict or None
        Method and settings; its arrays are the sections ``binarizer.*``. None where the index was
        built from bits and nothing was said of how they came about.
    rescore : {"none", "int8", "float16", "float32"}
        The stored vectors.
    ids : {"rows", "strings", "int64", "uint64"}
        What the stored ids are; ``rows`` where the row numbers serve.
    packed : str or None
        The layout in which the bits came, for an index built from bits.
    sources : list of dict
        Row count and content fingerprint of every input file; no paths, no times.
    model : dict of str to str
        What the input said of the model that made the vectors.
    calibration : dict or None
        How far a search looks, see :mod:`binq.structures.calibration`; None for flat.
    shard : dict or None
        Of a shard of a larger index: ``first``, the number of its first row there, and ``shared``,
        the fingerprint of what all shards have in common, see :mod:`binq.storage.manifest`.
    created, binq : str
        Time of the build (ISO 8601, UTC) and the version of binq that wrote the file.
    """

    rows: int
    dim: int
    bits: int
    words: int
    metric: str
    binarizer: dict[str, Any] | None
    created: str
    binq: str
    kind: str = "flat"
    scoring: str = "hamming"
    rescore: str = "none"
    ids: str = "rows"
    packed: str | None = None
    sources: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, str] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    shard: dict[str, Any] | None = None

    @property
    def id_type(self) -> IdType:
        """What the ids are, one of the values that ``from_json`` lets through."""
        return cast("IdType", self.ids)

    def to_json(self) -> dict[str, Any]:
        """Return the header's own members, without sections and checksums."""
        document = {"bit_order": "lsb"} | {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("calibration", "shard"):
            if document[name] is None:
                del document[name]
        return document

    @classmethod
    def from_json(cls, document: object) -> Header:
        """Read and check the members.

        Raises
        ------
        IndexFileError
            If one is missing, of a wrong type or out of range.
        """
        values: dict[str, Any] = {}
        for name in ("rows", "dim", "bits", "words"):
            values[name] = whole(member(document, name, int), name)
        for name in ("metric", "created", "binq", "kind", "scoring", "rescore", "ids"):
            values[name] = member(document, name, str)
        values["binarizer"] = optional(document, "binarizer", dict)
        values["packed"] = optional(document, "packed", str)
        values["calibration"] = optional(document, "calibration", dict)
        values["shard"] = optional(document, "shard", dict)
        values["sources"] = member(document, "sources", list)
        values["model"] = member(document, "model", dict)
        header = cls(**values)
        _check_choice(header.kind, "kind", KINDS)
        _check_choice(header.metric, "metric", METRICS)
        _check_choice(header.scoring, "scoring", SCORINGS)
        _check_choice(header.rescore, "rescore", STORED_VECTORS)
        _check_choice(header.ids, "ids", ("rows", "strings", *TYPED_IDS))
        _check_choice(header.packed, "packed", (None, *LAYOUTS))
        _check_choice(member(document, "bit_order", str), "bit_order", ("lsb",))
        for name, value in (("dim", header.dim), ("bits", header.bits)):
            if not 1 <= value <= MAX_DIM:
                raise corrupt(name, f"1 to {MAX_DIM}", value)
        if header.words != -(-header.bits // 64):
            raise corrupt("bits and words", "words = ceil(bits / 64)", (header.bits, header.words))
        for entry in header.sources:
            whole(member(entry, "rows", int, "sources"), "sources rows")
            member(entry, "fingerprint", str, "sources")
        if header.shard is not None:
            whole(member(header.shard, "first", int, "shard"), "shard first")
            member(header.shard, "shared", str, "shard")
        if not all(isinstance(text, str) for text in header.model.values()):
            raise corrupt("model", "strings", "something else")
        return header


def needed(header: Header, sections: Iterable[Section]) -> list[str]:
    """Return the features that a reader of this file must know, in the order of their bits."""
    found = ["typed_ids"] if header.ids in TYPED_IDS else []
    there = {section.name for section in sections}
    found += ["tombstones"] * ("tombstones" in there)
    found += [header.kind] * (header.kind != "flat")
    dtypes = {section.dtype for section in sections} - set(_DTYPES_OF_1_0)
    return found + [f"dtype:{name}" for name in sorted(dtypes)]


def refuse_newer(preamble: Preamble, file: bytes | mmap.mmap) -> None:
    """Refuse a file that needs a feature which this binq does not know.

    Looked at before anything else is checked, since a newer binq may write all of it otherwise.
    The names come out of the header; where that cannot be read, the bits must do.

    Raises
    ------
    IndexFileError
    """
    if not preamble.required:
        return
    names: list[str] = []
    start, length = preamble.header_offset, preamble.header_length
    encoded = file[start : start + length] if length <= HEADER_LIMIT else b""
    if xxhash.xxh3_64_intdigest(encoded) == preamble.header_checksum:
        with suppress(ValueError, RecursionError):
            document = json.loads(encoded)
            needs = document.get("needs") if isinstance(document, dict) else None
            for name in needs if isinstance(needs, list) else ():
                if isinstance(name, str) and _FEATURE_NAME.fullmatch(name):
                    names.append(name)
    unknown = features.unknown(preamble.required, names)
    if unknown:
        raise made_by_newer(preamble.version, unknown[:_MOST_NAMED])


def encode_header(
    header: Header, sections: list[Section], checksums: Section, checksums_hash: str
) -> bytes:
    """Return the header's JSON.

    Parameters
    ----------
    header : Header
    sections : list of Section
        In file order.
    checksums : Section
        The section of chunk checksums.
    checksums_hash : str
        Its xxh3-64, 16 hexadecimal digits.
    """
    names = needed(header, sections)
    document = header.to_json() | {
        **({"needs": names} if names else {}),
        "sections": [section.to_json() for section in sections],
        "checksums": {"offset": checksums.offset, "length": checksums.length}
        | {"xxh3": checksums_hash},
    }
    return json.dumps(document, ensure_ascii=False, sort_keys=True, indent=1).encode()


def decode_header(
    data: bytes, end: int, required: int = 0
) -> tuple[Header, list[Section], Section, str]:
    """Read the header's JSON and check every number in it against the file.

    Parameters
    ----------
    data : bytes
        The header, its checksum already checked, and known to need nothing unknown.
    end : int
        Offset at which sections must have ended (where the header begins).
    required : int
        The required feature bits of the preamble.

    Returns
    -------
    header, sections, checksums section, hash of the checksums section

    Raises
    ------
    IndexFileError
        If anything is missing, of a wrong type, out of bounds, misaligned or overlapping.
    """
    try:
        document = _JSON.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise corrupt("header", "JSON", "something else") from error
    header = Header.from_json(document)
    sections = [Section.from_json(entry) for entry in member(document, "sections", list)]
    if len({section.name for section in sections}) != len(sections):
        raise corrupt("sections", "unique names", "a name twice")
    names = needed(header, sections)
    said = optional(document, "needs", list) or []
    if sorted(map(str, said)) != sorted(names) or features.bits_of(names) != required:
        raise corrupt("needs", "the features that are there", "others")
    entry = member(document, "checksums", dict)
    offset = whole(member(entry, "offset", int, "checksums"), "checksums offset")
    length = whole(member(entry, "length", int, "checksums"), "checksums length")
    chunks = sum(chunks_in(section.length) for section in sections)
    if length != 8 * chunks:
        raise corrupt("checksums length", 8 * chunks, length)
    checksums = Section("checksums", "uint64", (chunks,), offset, length)
    position = PREAMBLE_SIZE
    for section in [*sections, checksums]:
        alignment = CODES_ALIGNMENT if section.name == "codes" else ALIGNMENT
        if section.offset % alignment:
            raise corrupt(f"section {section.name} offset", f"aligned to {alignment}", "another")
        if section.offset < position or section.offset + section.length > end:
            raise corrupt(f"section {section.name}", "inside the file, behind the one before", "no")
        position = section.offset + section.length
    return header, sections, checksums, member(entry, "xxh3", str, "checksums")


def refuse_constant(name: str) -> None:
    """Refuse NaN and the infinities, which are no JSON."""
    raise ValueError(name)


# Made once: to make one takes as long as to read a header.
_JSON = json.JSONDecoder(parse_constant=refuse_constant)


def member(document: object, name: str, kind: type[T], where: str = "header") -> T:
    """Return ``document[name]``, which must be there and of type ``kind`` (never a bool)."""
    if not isinstance(document, dict):
        raise corrupt(where, "a JSON object", type(document).__name__)
    value = document.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise corrupt(f"{where} {name}", kind.__name__, type(value).__name__)
    return value


def optional(document: object, name: str, kind: type[T]) -> T | None:
    """Return ``document[name]``, which may be null or absent, else must be of type ``kind``."""
    if isinstance(document, dict) and document.get(name) is None:
        return None
    return member(document, name, kind)


def whole(value: object, where: str) -> int:
    """Return ``value``, which must be an integer from 0 to 2**62."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LENGTH_LIMIT:
        raise corrupt(where, f"an integer from 0 to {LENGTH_LIMIT}", repr(value)[:40])
    return value


def _check_choice(value: object, where: str, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise corrupt(where, " or ".join(map(str, choices)), repr(value)[:40])
