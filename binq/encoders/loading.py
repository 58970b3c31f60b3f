"""From what the user says about a model to an encoder, and whether it is the recorded one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, Unpack

from binq.encoders.base import Encoder, FloatOptions, check_unicode
from binq.encoders.static import BUILT_IN, FINGERPRINT_LENGTH, StaticEncoder, is_static_model
from binq.errors import InputError, UsageError
from binq.types import MAX_DIM, OnWait

_MODEL: Final = "binq.model"
# What has to agree for two embeddings to be comparable, and what a message calls it.
_IDENTITY: Final = {
    _MODEL: "model",
    "binq.revision": "revision of the model",
    "binq.truncate_dim": "number of dims kept",
    "binq.normalized": "normalization",
    "binq.bits": "number of bits",
}
# No name of a model holds a port or a #: what stands without http:// is meant as an address.
_ADDRESS: Final = re.compile(r"[^/#]+:\d+(/|#|$)|[^#]+#.|localhost(/|$)")


def load_encoder(
    model: str | None = None,
    *,
    bits: bool = False,
    device: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    concurrency: int | None = None,
    on_wait: OnWait | None = None,
    **options: Unpack[FloatOptions],
) -> Encoder:
    """Load a model, which for a name on the hub may mean to download it.

    Parameters
    ----------
    model : str, optional
        ``None`` for the built-in model; a folder with a model2vec or sentence-transformers model;
        the name of such a model on the hub, with ``model2vec:`` before it for the former;
        ``http(s)://…`` for an endpoint; ``simhash:BITS`` or ``minhash:BITS``.
    bits : bool
        Ask a model that makes bits itself for them; of the others this asks nothing, since any
        floats can be turned into bits afterwards.
    device : str, optional
        Where a sentence-transformers model runs.
    key_file : path, optional
        Holds the key of an endpoint; else the environment does.
    threads : int, optional
        For what computes here, apart from tokenizers (see `binq.threads.limited_tokenizers`).
    concurrency : int, optional
        How many requests an endpoint takes at a time, from 1, the default, to 32.
    on_wait : callable, optional
        Told, from any thread, why an endpoint is asked again, in one line, and in how many seconds.
    options
        ``prompt``, ``truncate_dim``, ``normalize`` and ``batch_size``: see `FloatEncoder`.

    Raises
    ------
    UsageError
        If an option does not go with the model.
    InputError
        If the model's files or the key cannot be used.
    EnvironmentFailure
        If it cannot be had.
    MissingExtraError
        If the package that runs it is not installed.
    """
    if model is not None and not model.strip():
        raise UsageError("no model is named", "`model`", "a folder, a name or an address")
    kind, _, rest = (model or "").partition(":")
    is_url = is_endpoint(model)
    if is_url and model:
        # Before any message repeats it: it may hold what is none of a message's business.
        from binq.encoders.keys import check_url

        check_url(model.partition("#")[0])
    fingerprint = kind in ("simhash", "minhash") and bool(rest)
    static = (
        model is None or model == BUILT_IN or kind == "model2vec" or is_static_model(Path(model))
    )
    elsewhere = not (is_url or fingerprint or static)
    if model and elsewhere and _ADDRESS.match(model) and not Path(model).exists():
        shown = model.partition("#")[0].rpartition("@")[2]  # no password
        raise UsageError(
            "the address of an endpoint lacks its beginning",
            "`model`",
            "http:// or https:// in front of it",
            shown,
        )
    if model and elsewhere and model.startswith(("/", "./", "../")) and not Path(model).exists():
        raise InputError("no such folder", f"`model={model}`", next_step="check the path")
    # An option that a model cannot heed is refused rather than passed over.
    for option, value, heeded in (
        ("`device`", device, not (is_url or fingerprint or static)),
        ("`key_file`", key_file, is_url),
        ("`concurrency`", concurrency, is_url),
        ("`prompt`", options.get("prompt"), not fingerprint),
        ("`truncate_dim`", options.get("truncate_dim"), not fingerprint),
    ):
        if value is not None and not heeded:
            raise UsageError("the model does not take this option", option, got=model or BUILT_IN)
    check_unicode(options.get("prompt") or "", "`prompt`")
    batch_size = options.get("batch_size")
    if batch_size is not None and batch_size < 1:
        raise UsageError("too few texts at a time", "`batch_size`", "at least 1", str(batch_size))
    if fingerprint:
        return _fingerprints(kind, rest, batch_size, threads)
    if static:
        where = rest if kind == "model2vec" else None if model == BUILT_IN else model
        if where == "":
            raise UsageError("no model is named", "`model`", "model2vec:NAME")
        return StaticEncoder(where, **options)
    assert model is not None
    if is_url:
        from binq.encoders.endpoint import CohereEncoder, OpenAIEncoder

        speaks_cohere = model.partition("#")[0].rstrip("/").endswith("/embed")
        make = partial(CohereEncoder, bits=bits) if speaks_cohere else OpenAIEncoder
        return make(model, key_file=key_file, concurrency=concurrency, on_wait=on_wait, **options)
    from binq.encoders.sentence_transformers import SentenceTransformerEncoder

    return SentenceTransformerEncoder(model, device=device, threads=threads, **options)


def is_endpoint(model: str | None) -> bool:
    """Return whether a model stands behind an address, and computes elsewhere."""
    return re.match("https?://", model or "", re.IGNORECASE) is not None


def model_files(
    model: str | None, key_file: str | os.PathLike[str] | None
) -> tuple[str | None, str | None, list[str]]:
    """Return a model and the file of a key as any process of this machine can find them.

    Returns
    -------
    str or None, str or None, list of str
        The model and the file, by absolute paths where they are paths; and these paths.
    """
    key = None if key_file is None else os.path.abspath(key_file)
    files = [] if key is None else [key]
    prefix, folder = "", model
    if model is not None and model.startswith("model2vec:"):
        prefix, folder = "model2vec:", model.removeprefix("model2vec:")
    if folder and model != BUILT_IN and not is_endpoint(model) and Path(folder).is_dir():
        files.append(os.path.abspath(folder))
        model = prefix + files[-1]
    return model, key, files


def load_for(
    recorded: Mapping[str, str],
    model: str | None = None,
    *,
    prompt: str | None = None,
    device: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    on_wait: OnWait | None = None,
    force: bool = False,
) -> Encoder:
    """Load the encoder for queries against embeddings whose origin is recorded.

    Only what ships with binq is loaded on the word of a record: the built-in model, and
    fingerprints, which are pure computation. Anything else the user names.

    Parameters
    ----------
    recorded : mapping of str to str
        What `Encoder.metadata` said of the embeddings; empty if their origin is unknown.
    model, prompt, device, key_file, threads, on_wait
        See `load_encoder`. Truncation and normalization are taken from the record.
    force : bool
        Accept another model than the recorded one.

    Raises
    ------
    InputError
        If the record names a model that the user has to name and did not, or another one than
        the user's, or is damaged.
    UsageError
        If the origin is unknown and no model is named.
    """
    name = recorded.get(_MODEL)
    if model is None:
        if name is None:
            raise UsageError(
                "it is not recorded which model made the embeddings",
                "`text`",
                next_step="name it with `model`",
            )
        if name != BUILT_IN and not name.startswith(("simhash:", "minhash:")):
            raise InputError(
                "the embeddings were made by a model that has to be named",
                "`text`",
                next_step=f"give `model` with what stands for {name} here",
            )
        model = name
    encoder = load_encoder(
        model,
        prompt=prompt,
        truncate_dim=_whole(recorded, "binq.truncate_dim"),
        normalize=recorded.get("binq.normalized", "true") == "true",
        bits=recorded.get("binq.layout") == "ubinary" and "binq.precision" not in recorded,
        device=device,
        key_file=key_file,
        threads=threads,
        on_wait=on_wait,
    )
    if not force:
        check_same_model(recorded, encoder.metadata("query"), "`model`")
    return encoder


def check_same_model(recorded: Mapping[str, str], given: Mapping[str, str], where: str) -> None:
    """Check that two records do not speak of different models.

    What only one of them knows is passed over: embeddings of unknown origin are accepted.

    Parameters
    ----------
    recorded, given : mapping of str to str
        Metadata under keys that begin with ``binq.``.
    where : str
        What the message names as the place of ``given``.

    Raises
    ------
    InputError
        If both name a fact about the model, and not the same.
    """
    if _MODEL not in recorded or _MODEL not in given:
        return
    revision = recorded.get("binq.revision", "")
    # A fingerprint of equal files: the same model, whatever its folder is called.
    same_files = revision == given.get("binq.revision") and len(revision) == FINGERPRINT_LENGTH
    for key, meaning in _IDENTITY.items():
        if key == _MODEL and same_files:
            continue
        if key == "binq.truncate_dim":
            # Absent means all dims, once the model is known.
            wanted, found = recorded.get(key, "all"), given.get(key, "all")
        else:
            wanted, found = recorded.get(key, ""), given.get(key, "")
        if wanted != found and wanted and found:
            raise InputError(
                f"another {meaning} than the index records",
                where,
                wanted,
                found,
                "use what made the index, or `force` to compare them all the same",
            )


def _fingerprints(method: str, width: str, batch_size: int | None, threads: int | None) -> Encoder:
    from binq.encoders.fingerprints import METHODS, FingerprintEncoder

    if not (width.isascii() and width.isdigit() and len(width) < 10):
        raise UsageError("not a number of bits", f"`model={method}:{width}`", f"{method}:256")
    chosen = next(known for known in METHODS if known == method)
    return FingerprintEncoder(chosen, int(width), batch_size=batch_size, threads=threads)


def _whole(recorded: Mapping[str, str], key: str) -> int | None:
    value = recorded.get(key)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 0 < int(value[:10]) <= MAX_DIM):
        raise InputError(f"metadata {key} is damaged", expected=f"1 to {MAX_DIM}", got=value)
    return int(value)
