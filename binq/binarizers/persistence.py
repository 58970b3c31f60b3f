"""A binarizer as a file of its own: npz, no pickle."""

from __future__ import annotations

import json
import os

import numpy as np

from binq.binarizers.binarizer import Binarizer
from binq.errors import EnvironmentFailure, InputError
from binq.io.arrays import read_npz
from binq.io.atomic import atomic_write

_SETTINGS = "settings"
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def save(binarizer: Binarizer, path: str | os.PathLike[str]) -> None:
    """Write a binarizer as npz: its arrays by name, and its settings as JSON text.

    Raises
    ------
    EnvironmentFailure
        If the file cannot be written.
    """
    settings = np.array(json.dumps(binarizer.settings(), sort_keys=True))
    with atomic_write(path) as file:
        np.savez(file, **{_SETTINGS: settings, **binarizer.arrays()})  # type: ignore[arg-type]


def load(path: str | os.PathLike[str]) -> Binarizer:
    """Read a binarizer that :func:`save` wrote.

    Raises
    ------
    InputError
        If the file is missing, damaged or not a binarizer.
    """
    try:
        arrays = read_npz(path)
        settings = json.loads(str(arrays.pop(_SETTINGS)))
        return Binarizer.restore(settings, arrays)
    except FileNotFoundError:
        raise InputError(
            "no such binarizer", str(path), next_step="save one with `save_binarizer`"
        ) from None
    except PermissionError as error:
        raise EnvironmentFailure("cannot read the binarizer", str(path)) from error
    except (*_DAMAGE, OSError) as error:
        raise InputError(
            "not a binarizer",
            str(path),
            "an npz file written by `save_binarizer`",
            str(error) if str(error).startswith("the unknown") else "",
            next_step="save one with `save_binarizer`",
        ) from error
