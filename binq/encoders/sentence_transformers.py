"""Models that run through the sentence-transformers package."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Unpack

import numpy as np
from numpy.typing import NDArray

from binq.encoders.base import FloatEncoder, FloatOptions
from binq.encoders.static import fingerprint_folder
from binq.errors import EnvironmentFailure, InputError, missing_extra
from binq.types import Role

# A prompt may stand under several names; the first that a model defines is taken.
_PROMPT_NAMES: Final[dict[Role, tuple[str, ...]]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}
# Tokens are counted only for texts that could be too long: none has more tokens than bytes.
_SPECIAL_TOKENS: Final = 2


class SentenceTransformerEncoder(FloatEncoder):
    """A model of the sentence-transformers package.

    Parameters
    ----------
    model : str
        A folder, or a name on the hub (which may be downloaded). Code that comes with a model is
        never run.
    device : str, optional
        ``cpu``, ``cuda``, ``mps``, ...; the best that is there by default.
    threads : int, optional
        Of the CPU; what the package likes by default.
    options
        See `FloatEncoder`. Without ``prompt``, the model's own for the role is used, and the one
        that the model declares its default where it has none for the role.

    Raises
    ------
    MissingExtraError
        If sentence-transformers is not installed.
    InputError
        If a folder does not hold a usable model.
    EnvironmentFailure
        If a model on the hub cannot be had, or the device is not there.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        threads: int | None = None,
        **options: Unpack[FloatOptions],
    ) -> None:
        folder = Path(model)
        local = folder.is_dir()
        super().__init__(
            folder.resolve().name if local else model,
            fingerprint_folder(folder, _model_files(folder)) if local else "",
            **options,
        )
        self._model = _load(model, local=local, device=device)
        if threads is not None and "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        if not local:
            self.revision = _hub_revision(self._model)

    def overlong(self, texts: Sequence[str], role: Role = "document") -> NDArray[np.bool_]:
        """Return which texts, prompt included, have more tokens than the model reads: (n,) bool."""
        flags = np.zeros(len(texts), dtype=np.bool_)
        limit = self._model.max_seq_length
        if limit is None:
            return flags
        prompt = self.prompt(role)
        allowed = int(limit) - _SPECIAL_TOKENS
        suspects = [i for i, text in enumerate(texts) if len((prompt + text).encode()) > allowed]
        if suspects:
            tokenizer = self._model.tokenizer
            tokens = tokenizer(
                [prompt + texts[i] for i in suspects], truncation=False, verbose=False
            )["input_ids"]
            flags[suspects] = [len(ids) > limit for ids in tokens]
        return flags

    def metadata(self, role: Role = "document") -> dict[str, str]:
        """Return what `FloatEncoder.metadata` does, and how many tokens the model reads."""
        entries = super().metadata(role)
        if self._model.max_seq_length is not None:
            entries["binq.max_tokens"] = str(self._model.max_seq_length)
        return entries

    def _model_prompt(self, role: Role) -> str:
        prompts: dict[str, str] = self._model.prompts or {}
        default = self._model.default_prompt_name
        for name in (*_PROMPT_NAMES[role], *([default] if default else [])):
            if prompts.get(name):
                return prompts[name]
        return ""

    def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
        del role
        if not texts:
            dim = self._model.get_sentence_embedding_dimension() or 0
            return np.empty((0, dim), dtype=np.float32)
        rows: NDArray[Any] = self._model.encode(
            texts,
            # The prompt is already in front; an empty one keeps the model's default away.
            prompt="",
            batch_size=self.batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return rows


def _load(model: str, *, local: bool, device: str | None) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise missing_extra(
            "sentence-transformers", "sentence-transformers", f"the model {model}"
        ) from error
    try:
        return SentenceTransformer(
            model, device=device, trust_remote_code=False, local_files_only=local
        )
    except Exception as error:  # the libraries below raise whatever they like
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if local and device is None:
            raise InputError("not a usable model", model, got=reason) from error
        raise EnvironmentFailure(
            "cannot load the model",
            model,
            got=reason,
            next_step="check name, network and device, or give the path of a local copy",
        ) from error


def _model_files(folder: Path) -> list[str]:
    """Return the files that decide a model's answers, in a fixed order."""
    kinds = {".safetensors", ".bin", ".json", ".txt", ".model", ".onnx"}
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in kinds and not path.name.startswith(".")
    )


def _hub_revision(model: Any) -> str:
    """Return the commit of a model that came from the hub, where the library tells it."""
    for module in model:
        config = getattr(getattr(module, "auto_model", None), "config", None)
        commit = getattr(config, "_commit_hash", None)
        if commit:
            return str(commit)
    return ""
