"""What a build can be told about its binarizer: written once, checked once."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest

import binq
from binq.building.options import BinarizerOptions, BinarizerSettings
from binq.cli import options as opt
from binq.errors import UsageError


def test_settings_are_the_fields_of_the_options() -> None:
    hints = get_type_hints(BinarizerOptions)
    assert get_type_hints(BinarizerSettings) == hints
    defaults = {name: default for name, (_, default) in opt.BINARIZER.items()}
    fields = {field.name: field.default for field in dataclasses.fields(BinarizerOptions)}
    assert defaults | {"scoring": None} == fields


def test_values_that_make_no_sense() -> None:
    for settings in (
        {"method": "pca"},
        {"metric": "hamming"},
        {"metric": None},
        {"scoring": "cosine"},
        {"sample": 0},
        {"seed": -1},
        {"binarizer": "b.npz", "method": "sign"},
        {"binarizer": "b.npz", "truncate_dim": 3},
    ):
        with pytest.raises(UsageError, match="|".join(settings)):
            BinarizerOptions(**settings)  # type: ignore[arg-type]


def test_a_word_that_is_unknown(tmp_path: Any) -> None:
    for function in (binq.build, binq.binarize):
        with pytest.raises(TypeError, match="metod"):
            function([], tmp_path / "x.npy", metod="sign")  # type: ignore[operator]
