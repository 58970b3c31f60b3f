"""From an index file back to what made its codes: the binarizer, and the terms of the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms
from binq.errors import InputError
from binq.storage.reader import IndexFile


def restore_binarizer(file: IndexFile) -> Binarizer | None:
    """Rebuild the binarizer of an index from its header and sections.

    Returns
    -------
    Binarizer or None
        None for an index built from bits of unknown origin.

    Raises
    ------
    IndexFileError
        If it is missing, or its settings and arrays do not fit each other or the header.
    """
    header = file.header
    if header.binarizer is None:
        if header.packed is None:
            raise file.corrupt("binarizer", "present", "absent")
        return None
    arrays = {
        name.removeprefix("binarizer."): file.array(name, section.dtype, section.shape)
        for name, section in file.sections.items()
        if name.startswith("binarizer.")
    }
    try:
        binarizer = Binarizer.restore(header.binarizer, arrays)
    except ValueError as error:
        raise file.corrupt("binarizer", "settings and arrays that fit", error) from error
    if (binarizer.dim, binarizer.bits, binarizer.metric) != (
        header.dim,
        header.bits,
        header.metric,
    ):
        raise file.corrupt("binarizer", "the dim, bits and metric of the header", "others")
    return binarizer


def row_terms(file: IndexFile, binarizer: Binarizer | None) -> RowTerms:
    """Return the terms of the rows for asymmetric scores.

    Parameters
    ----------
    file : IndexFile
    binarizer : Binarizer or None
        As :func:`restore_binarizer` gives it.

    Returns
    -------
    RowTerms
        Each (n,) float32, or None where the index stores none.

    Raises
    ------
    InputError
        If there is no binarizer, or the index does not store what its binarizer needs.
    IndexFileError
        If a section is of another dtype or shape than its name says.
    """
    if binarizer is None:
        raise InputError(
            "this index was built from bits, and nothing says how they came about",
            str(file.path),
            "hamming",
            "asymmetric",
            "build with --method sign or --binarizer",
        )
    terms: dict[str, NDArray[np.float32]] = {}
    for name in ("factor", "addend"):
        section = file.sections.get(f"codes.{name}")
        if section is not None:
            dtype = "float16" if section.dtype == "float16" else "float32"
            stored = file.array(f"codes.{name}", dtype, (file.header.rows,))
            with np.errstate(invalid="ignore"):
                terms[name] = np.nan_to_num(stored.astype(np.float32))
    if binarizer.needs_terms and "factor" not in terms and file.header.rows:
        raise InputError(
            "this index stores nothing for asymmetric scores",
            str(file.path),
            "an index built for them",
            f"one built for {file.header.scoring}",
            "build it with --scoring asymmetric",
        )
    return RowTerms(**terms)
