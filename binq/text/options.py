"""What an encoding run can be told, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from binq.encoders import Encoder, check_role
from binq.errors import UsageError
from binq.types import (
    DEFAULT_ON_ERROR,
    ON_ERROR,
    PRECISIONS,
    OnBlank,
    OnError,
    OnTruncate,
    Precision,
    Role,
)


@dataclass(slots=True)
class EncodeProgress:
    """How far a run has come.

    Attributes
    ----------
    rows : int
        Texts dealt with so far.
    encoded : int
        Texts that this run has encoded.
    fraction : float or None
        Share of the input that has been read, where its size is known.
    seconds : float
        Since the run began.
    """

    rows: int = 0
    encoded: int = 0
    fraction: float | None = None
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Texts a second."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class EncodeOptions:
    """What an encoding run can be told.

    Attributes
    ----------
    role : {"document", "query"}
        Which prompt applies.
    precision : {"float32", "float16", "ubinary"} or None
        How floats are written, ``ubinary`` being one bit per dim that is set where it is above
        zero; float32 by default. Codes are written as they are and take none but ``ubinary``.
    batch_size : int or None
        Texts given to the encoder at a time; as it likes by default.
    resume : bool
        Keep a checkpoint beside the output and go on from the one that is there. It is removed
        at the end. The same text is never encoded twice.
    on_truncate : {"warn", "error"}
        Whether texts that the encoder cuts are reported, or are rows that cannot be used.
    on_blank : {"skip", "error"}
        Whether texts that hold nothing but white space are left out and reported, or are rows
        that cannot be used.
    on_error : {"stop", "skip"}
        Whether the run ends at a row that cannot be used, or leaves it out, counts it and goes on.
        Where no row is left, it ends all the same.
    progress : callable or None
        Called after every batch.

    Raises
    ------
    UsageError
        If a value is none of these.
    """

    role: Role = "document"
    precision: Precision | None = None
    batch_size: int | None = None
    resume: bool = False
    on_truncate: OnTruncate = "warn"
    on_blank: OnBlank = "skip"
    on_error: OnError = DEFAULT_ON_ERROR
    progress: Callable[[EncodeProgress], None] | None = None

    def __post_init__(self) -> None:
        check_role(self.role)
        if self.precision not in (None, *PRECISIONS):
            known = ", ".join(PRECISIONS)
            raise UsageError("unknown precision", "`precision`", known, str(self.precision))
        if self.on_error not in ON_ERROR:
            known = ", ".join(ON_ERROR)
            raise UsageError("unknown choice", "`on_error`", known, str(self.on_error))
        if self.batch_size is not None and self.batch_size < 1:
            got = str(self.batch_size)
            raise UsageError("too few texts at a time", "`batch_size`", "at least 1", got)

    def precision_for(self, encoder: Encoder) -> Precision:
        """Return how what ``encoder`` yields is written.

        Raises
        ------
        UsageError
            If it yields codes and floats are wanted.
        """
        if encoder.bits is None:
            return self.precision or "float32"
        if self.precision not in (None, "ubinary"):
            raise UsageError("the model makes bits", "`precision`", "ubinary", str(self.precision))
        return "ubinary"


@dataclass(slots=True)
class EncodeReport:
    """What a run did.

    Attributes
    ----------
    rows : int
        Rows written.
    dim, bits : int or None
        Width of the output: of embeddings, or of codes.
    encoded : int
        Distinct texts that were encoded by this run.
    resumed : int
        Distinct texts whose vectors an interrupted run had left.
    duplicates : int
        Rows whose text had occurred before.
    blank, overlong : int
        Texts left out since they hold nothing; texts whose end the model did not read.
    blank_rows, overlong_rows : list of str
        Where the first ten of each stand.
    skipped : int
        Rows left out since they cannot be used.
    skipped_rows : list of str
        Where the first ten of them stand, and what is wrong with them.
    seconds : float
        How long it took.
    id_note : str or None
        Which columns could hold ids, where none was found.
    """

    rows: int = 0
    dim: int | None = None
    bits: int | None = None
    encoded: int = 0
    resumed: int = 0
    duplicates: int = 0
    blank: int = 0
    overlong: int = 0
    blank_rows: list[str] = field(default_factory=list)
    overlong_rows: list[str] = field(default_factory=list)
    skipped: int = 0
    skipped_rows: list[str] = field(default_factory=list)
    seconds: float = 0.0
    id_note: str | None = None
