"""What every encoder is: texts in, one row of numbers or of packed bits each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from binq.errors import EnvironmentFailure, InputError, UsageError
from binq.types import ROLES, Role


def check_unicode(text: str, where: str) -> None:
    """Refuse a text that no model takes: of an argument that is not UTF-8 half a pair is left.

    Raises
    ------
    UsageError
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("not valid Unicode", where, "UTF-8", repr(text)[:40]) from None


class FloatOptions(TypedDict, total=False):
    """What every encoder of floats can be told; `FloatEncoder` says what the options mean."""

    prompt: str | None
    truncate_dim: int | None
    normalize: bool
    batch_size: int | None


class Encoder(Protocol):
    """Turns texts into embeddings or codes."""

    @property
    def name(self) -> str:
        """What the metadata call the model."""

    @property
    def revision(self) -> str:
        """What tells two states of the model apart; empty where nobody can say."""

    @property
    def bits(self) -> int | None:
        """Width of the codes, 0 while unknown; None for an encoder that yields floats."""

    @property
    def batch_size(self) -> int:
        """How many texts it likes to be given at a time."""

    @property
    def concurrency(self) -> int:
        """From how many threads it may be called at once, to its gain: 1 for what computes here."""

    def encode(self, texts: Sequence[str], role: Role = "document") -> NDArray[Any]:
        """Return (n, dim) float32, or (n, ceil(bits / 8)) uint8 with the first bit on top."""

    def overlong(self, texts: Sequence[str], role: Role = "document") -> NDArray[np.bool_]:
        """Return which texts have an end that the encoder will not read: (n,) bool."""

    def metadata(self, role: Role = "document") -> dict[str, str]:
        """Return what has to travel with the output, under keys that begin with ``binq.``."""


class FloatEncoder(ABC):
    """The common part of encoders that yield floats.

    Parameters
    ----------
    name, revision : str
        See `Encoder`.
    prompt : str, optional
        Put before every text, whatever the role; None leaves it to the model.
    truncate_dim : int, optional
        Keep the first so many dims, as Matryoshka models allow.
    normalize : bool
        Scale every embedding to length 1, after the cut.
    batch_size : int, optional
        How many texts ``_embed`` is given at a time; by default as many as suits the encoder.

    Raises
    ------
    UsageError
        If ``truncate_dim`` is below 1.
    """

    bits: int | None = None
    concurrency = 1
    default_batch = 32

    def __init__(
        self,
        name: str,
        revision: str,
        *,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        normalize: bool = True,
        batch_size: int | None = None,
    ) -> None:
        if truncate_dim is not None and truncate_dim < 1:
            raise UsageError("too few dims", "`truncate_dim`", "at least 1", str(truncate_dim))
        self.name = name
        self.revision = revision
        self.batch_size = batch_size or self.default_batch
        self._prompt = prompt
        self._truncate_dim = truncate_dim
        self._normalize = normalize

    def encode(self, texts: Sequence[str], role: Role = "document") -> NDArray[np.float32]:
        """Encode texts.

        Parameters
        ----------
        texts : sequence of str
        role : {"document", "query"}
            Chooses the prompt of a model that has several.

        Returns
        -------
        (n, dim) float32

        Raises
        ------
        InputError
            If the model cannot make finite numbers of a text, or has fewer dims than are kept.
        EnvironmentFailure
            If the model answers with the wrong number of rows.
        """
        prompt = self.prompt(role)
        rows: NDArray[Any] = np.asarray(
            self._embed([prompt + text for text in texts], role), dtype=np.float32
        )
        if rows.ndim != 2 or len(rows) != len(texts):
            raise EnvironmentFailure(
                "the model's answer has the wrong shape",
                self.name,
                f"{len(texts)} rows",
                str(rows.shape),
            )
        if self._truncate_dim is not None:
            if rows.shape[1] < self._truncate_dim and len(rows):
                raise InputError(
                    "the model has fewer dims than are to be kept",
                    self.name,
                    f"at least {self._truncate_dim}",
                    str(rows.shape[1]),
                )
            rows = rows[:, : self._truncate_dim]
        if not np.isfinite(rows).all():
            raise InputError("the model made NaN or infinity of a text", self.name)
        if self._normalize:
            # Scaled by the largest value first, so that no square overflows.
            peak = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
            rows = rows / np.where(peak > 0, peak, 1)
            length = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / np.where(length > 0, length, 1)
        return np.ascontiguousarray(rows, dtype=np.float32)

    def prompt(self, role: Role) -> str:
        """Return what is put before a text of that role."""
        return self._prompt if self._prompt is not None else self._model_prompt(role)

    def overlong(self, texts: Sequence[str], role: Role = "document") -> NDArray[np.bool_]:
        """Return which texts the model cuts: (n,) bool; none where it reads everything."""
        del role
        return np.zeros(len(texts), dtype=np.bool_)

    def metadata(self, role: Role = "document") -> dict[str, str]:
        """Return model, revision, prompts, truncation and normalization as text."""
        entries = {
            "binq.model": self.name,
            "binq.revision": self.revision,
            "binq.role": role,
            "binq.prompt": self.prompt(role),
            "binq.prompt.query": self.prompt("query"),
            "binq.normalized": "true" if self._normalize else "false",
        }
        if self._truncate_dim is not None:
            entries["binq.truncate_dim"] = str(self._truncate_dim)
        return entries

    def _model_prompt(self, role: Role) -> str:
        """Return the prompt that the model itself prescribes."""
        del role
        return ""

    @abstractmethod
    def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
        """Return the model's raw output for texts that already carry their prompt."""


def check_role(role: Role) -> Role:
    """Return ``role``.

    Raises
    ------
    UsageError
        If it is neither ``query`` nor ``document``.
    """
    if role not in ROLES:
        raise UsageError("unknown role", "`role`", " or ".join(ROLES), role)
    return role
