r"""The ``.binq`` file as bytes: this docstring is its specification, version 1.0.

All numbers are little-endian. A file is, in this order::

    preamble    128 bytes at offset 0
    sections    each aligned to 64 bytes, ``codes`` to 4,096; zero bytes between them
    checksums   aligned to 64 bytes: one uint64 for every chunk of every section
    header      JSON, UTF-8, at most 1 MiB; aligned to 64 bytes
    footer      32 bytes, at the very end; aligned to 64 bytes

Preamble
--------
======  ====  ==================================================================
offset  size  field
======  ====  ==================================================================
0       8     magic ``89 42 49 4E 51 0D 0A 1A`` (``\x89BINQ\r\n\x1a``)
8       2     format major (1): a reader refuses a newer one
10      2     format minor (0): a reader accepts a newer one
12      4     size of the preamble (128)
16      8     required feature bits: a reader refuses one that it does not know
24      8     optional feature bits: a reader ignores those that it does not know
32      16    build UUID
48      8     length of the whole file
56      8     offset of the header
64      8     length of the header
72      8     xxh3-64 of the header
80      40    zero
120     8     xxh3-64 of the bytes 0 to 119
======  ====  ==================================================================

Version 1.0 knows no feature bit. The UUID is random, unless ``SOURCE_DATE_EPOCH`` is set: then it
is derived from the content, so that equal inputs give equal bytes.

Footer
------
UUID (16), length of the whole file (8), magic ``BINQ-END`` (8).

Header
------
One JSON object with the members of :class:`Header`; unknown members are ignored. ``sections`` is
a list of ``{"name", "dtype", "shape", "offset", "length"}`` in the order in which they stand in
the file, which do not overlap; ``checksums`` is ``{"offset", "length", "xxh3"}``, the last being
the xxh3-64 of the checksums section as 16 hexadecimal digits. Dtypes are uint8, int8, uint64,
int64, float16, float32, float64; arrays are row-major.

Checksums
---------
Every section is cut into chunks of 1 MiB (the last may be shorter), and the xxh3-64 of each chunk
is stored: first those of the first section, then those of the second, and so on.

Sections of a flat index
------------------------
====================  ========  ===============  =============================================
name                  dtype     shape            holds
====================  ========  ===============  =============================================
codes                 uint64    (n, words)       the codes, bit j in word j // 64 at position
                                                 j % 64; bits beyond ``bits`` are zero
ids.offsets           uint64    (n + 1,)         where each id begins in ``ids.bytes``; absent
                                                 where the id is the row number
ids.bytes             uint8     (total,)         the ids, UTF-8, end to end
binarizer.*           by name   by method        the arrays of ``Affine`` in ``binq.binarizers``
codes.factor          float16,  (n,)             for the asymmetric scan: a row's score is its
                      float32                    product with the query times this; absent: 1
codes.addend          float32   (n,)             plus this, under l2; absent: 0
rescore.vectors       by dtype  (n, dim)         the rescoring payload: int8, float16, float32
rescore.low, .step    float32   (dim,)           of int8: value = low + step * (stored + 128)
====================  ========  ===============  =============================================
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeVar

import numpy as np
import xxhash

from binq.errors import IndexFileError

MAGIC: Final = b"\x89BINQ\r\n\x1a"
FOOTER_MAGIC: Final = b"BINQ-END"
MAJOR: Final = 1
MINOR: Final = 0
KNOWN_REQUIRED: Final = 0
PREAMBLE_SIZE: Final = 128
FOOTER_SIZE: Final = 32
HEADER_LIMIT: Final = 1 << 20
CHUNK: Final = 1 << 20
ALIGNMENT: Final = 64
CODES_ALIGNMENT: Final = 4096
LENGTH_LIMIT: Final = 1 << 62

_PREAMBLE = struct.Struct("<8sHHIQQ16sQQQQ40s")
_FOOTER = struct.Struct("<16sQ8s")
_DTYPES: Final = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("uint8", "int8", "uint64", "int64", "float16", "float32", "float64")
}

T = TypeVar("T")


def align(offset: int, alignment: int = ALIGNMENT) -> int:
    """Return the first multiple of ``alignment`` that is not below ``offset``."""
    return -(-offset // alignment) * alignment


def chunks_in(length: int) -> int:
    """Return the number of checksummed chunks in a section of ``length`` bytes."""
    return -(-length // CHUNK)


def corrupt(what: str, expected: object = "", got: object = "") -> IndexFileError:
    """Return the error of an index that is damaged; the reader adds the path."""
    return IndexFileError(
        "the index is corrupt",
        what,
        str(expected),
        str(got),
        "restore it from a copy or build it again",
    )


@dataclass(frozen=True)
class Preamble:
    """The first 128 bytes; sizes in bytes."""

    uuid: bytes
    file_length: int
    header_offset: int
    header_length: int
    header_checksum: int
    optional_features: int = 0

    def encode(self) -> bytes:
        """Return the 128 bytes."""
        body = _PREAMBLE.pack(
            MAGIC,
            MAJOR,
            MINOR,
            PREAMBLE_SIZE,
            0,
            self.optional_features,
            self.uuid,
            self.file_length,
            self.header_offset,
            self.header_length,
            self.header_checksum,
            b"",
        )
        return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body))

    @classmethod
    def decode(cls, data: bytes) -> Preamble:
        """Read the first bytes of a file.

        Raises
        ------
        IndexFileError
            If they are not those of an index, or of one that this version cannot read.
        """
        if not data.startswith(MAGIC):
            raise IndexFileError(
                "not a binq index",
                expected="a file that begins with the binq signature",
                got="an empty file" if not data else "other content",
                next_step="make one with: binq build VECTORS -o INDEX.binq",
            )
        if len(data) < PREAMBLE_SIZE:
            raise corrupt("preamble", f"{PREAMBLE_SIZE} bytes", f"{len(data)}")
        body, (checksum,) = data[:120], struct.unpack_from("<Q", data, 120)
        values = _PREAMBLE.unpack(body)
        _, major, minor, size, required, optional, uuid, length, at, header_length, xxh3, _ = values
        # The version is looked at first: only its own version may say what a checksum covers.
        if major > MAJOR:
            raise IndexFileError(
                "the index is of a newer format",
                expected=f"format {MAJOR}.{MINOR} or older",
                got=f"{major}.{minor}",
                next_step="upgrade binq",
            )
        if checksum != xxhash.xxh3_64_intdigest(body):
            raise corrupt("preamble", "a matching checksum", "another")
        if required & ~KNOWN_REQUIRED:
            raise IndexFileError(
                "the index needs a feature that this binq does not know",
                expected=f"format {MAJOR}.{MINOR} with required features {KNOWN_REQUIRED:#x}",
                got=f"{major}.{minor} with {required:#x}",
                next_step="upgrade binq",
            )
        if major < 1 or size != PREAMBLE_SIZE:
            raise corrupt("preamble", f"format 1 and size {PREAMBLE_SIZE}", f"{major}, {size}")
        if header_length > HEADER_LIMIT:
            raise corrupt("header length", f"at most {HEADER_LIMIT}", header_length)
        if max(length, at) > LENGTH_LIMIT or not PREAMBLE_SIZE <= at <= length - header_length:
            raise corrupt("header offset", "a place inside the file", at)
        return cls(uuid, length, at, header_length, xxh3, optional)


def encode_footer(uuid: bytes, file_length: int) -> bytes:
    """Return the last 32 bytes of a file."""
    return _FOOTER.pack(uuid, file_length, FOOTER_MAGIC)


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
        return _DTYPES[self.dtype]

    def to_json(self) -> dict[str, Any]:
        """Return the header's entry for this section."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "offset": self.offset,
            "length": self.length,
        }

    @classmethod
    def from_json(cls, entry: object) -> Section:
        """Read an entry of the header, checking that length, shape and dtype agree."""
        name = member(entry, "name", str)
        where = f"section {name}"
        dtype = member(entry, "dtype", str, where)
        if dtype not in _DTYPES:
            raise corrupt(f"{where} dtype", " or ".join(_DTYPES), dtype)
        shape = tuple(whole(size, f"{where} shape") for size in member(entry, "shape", list, where))
        if not 1 <= len(shape) <= 4:
            raise corrupt(f"{where} shape", "1 to 4 axes", len(shape))
        offset = whole(member(entry, "offset", int, where), f"{where} offset")
        length = whole(member(entry, "length", int, where), f"{where} length")
        expected = extent = _DTYPES[dtype].itemsize
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
    kind : {"flat"}
        The structure over the codes.
    metric : {"cosine", "ip", "l2"}
        What truth and rescoring mean.
    scoring : {"hamming", "asymmetric"}
        The scan that the index was built for.
    binarizer : dict or None
        Method and settings; its arrays are the sections ``binarizer.*``. None where the index was
        built from bits and nothing was said of how they came about.
    rescore : {"none", "int8", "float16", "float32"}
        The payload.
    ids : {"strings", "rows"}
        Whether ids are stored, or are the row numbers.
    packed : str or None
        The layout in which the bits came, for an index built from bits.
    sources : list of dict
        Row count and content fingerprint of every input file; no paths, no times.
    model : dict of str to str
        What the input said of the model that made the vectors.
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

    def to_json(self) -> dict[str, Any]:
        """Return the header's own members, without sections and checksums."""
        return {"bit_order": "lsb"} | {f.name: getattr(self, f.name) for f in fields(self)}

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
        values["sources"] = member(document, "sources", list)
        values["model"] = member(document, "model", dict)
        header = cls(**values)
        _check_choice(header.kind, "kind", ("flat",))
        _check_choice(header.metric, "metric", ("cosine", "ip", "l2"))
        _check_choice(header.scoring, "scoring", ("hamming", "asymmetric"))
        _check_choice(header.rescore, "rescore", ("none", "int8", "float16", "float32"))
        _check_choice(header.ids, "ids", ("strings", "rows"))
        _check_choice(header.packed, "packed", (None, "ubinary", "binary", "lsb"))
        _check_choice(member(document, "bit_order", str), "bit_order", ("lsb",))
        if header.bits < 1 or header.dim < 1 or header.words != -(-header.bits // 64):
            raise corrupt("bits and words", "words = ceil(bits / 64)", (header.bits, header.words))
        for entry in header.sources:
            whole(member(entry, "rows", int, "sources"), "sources rows")
            member(entry, "fingerprint", str, "sources")
        if not all(isinstance(text, str) for text in header.model.values()):
            raise corrupt("model", "strings", "something else")
        return header


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
    document = header.to_json() | {
        "sections": [section.to_json() for section in sections],
        "checksums": {
            "offset": checksums.offset,
            "length": checksums.length,
            "xxh3": checksums_hash,
        },
    }
    return json.dumps(document, ensure_ascii=False, sort_keys=True, indent=1).encode()


def decode_header(data: bytes, end: int) -> tuple[Header, list[Section], Section, str]:
    """Read the header's JSON and check every number in it against the file.

    Parameters
    ----------
    data : bytes
        The header, its checksum already checked.
    end : int
        Offset at which sections must have ended (where the header begins).

    Returns
    -------
    header, sections, checksums section, hash of the checksums section

    Raises
    ------
    IndexFileError
        If anything is missing, of a wrong type, out of bounds, misaligned or overlapping.
    """
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise corrupt("header", "JSON", "something else") from error
    header = Header.from_json(document)
    sections = [Section.from_json(entry) for entry in member(document, "sections", list)]
    if len({section.name for section in sections}) != len(sections):
        raise corrupt("sections", "unique names", "a name twice")
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


def _refuse_constant(name: str) -> None:
    """Refuse NaN and the infinities, which are no JSON."""
    raise ValueError(name)


def member(document: object, name: str, kind: type[T], where: str = "header") -> T:
    """Return ``document[name]``, which must be there and of type ``kind`` (a bool is no int)."""
    if not isinstance(document, dict):
        raise corrupt(where, "a JSON object", type(document).__name__)
    value = document.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise corrupt(f"{where} {name}", kind.__name__, type(value).__name__)
    return value


def optional(document: object, name: str, kind: type[T], where: str = "header") -> T | None:
    """Return ``document[name]``, which may be null or absent, else must be of type ``kind``."""
    if isinstance(document, dict) and document.get(name) is None:
        return None
    return member(document, name, kind, where)


def whole(value: object, where: str) -> int:
    """Return ``value``, which must be an integer from 0 to 2**62."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LENGTH_LIMIT:
        raise corrupt(where, f"an integer from 0 to {LENGTH_LIMIT}", repr(value)[:40])
    return value


def _check_choice(value: object, where: str, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise corrupt(where, " or ".join(map(str, choices)), repr(value)[:40])
