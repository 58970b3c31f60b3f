"""Parameters are named as Python does in the library, and as options on the command line."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import binq
from binq import errors
from binq.cli.spelling import Spelling, option

PACKAGE = Path(binq.__file__).parent


def test_one_message_two_spellings() -> None:
    error = errors.UsageError(
        "`rescore_from` goes with `queries`", "`k`", next_step="use `rescore=int8`"
    )
    assert str(error) == "rescore_from goes with queries: k; use rescore=int8"
    assert error.line(option) == "--rescore-from goes with --queries: -k; use --rescore int8"


def test_arguments_are_no_options(cli: Callable[..., Any], index: Path, queries: Path) -> None:
    from binq.cli.app import _Commands

    assert Spelling(_Commands()["query"])("queries", None) == "QUERIES"
    assert Spelling(None)("queries", None) == "--queries"
    refused = cli("query", index, queries, "--threads", 0, code=2)
    assert "--threads" in refused.err


def test_the_library_is_told_of_parameters(index: Path) -> None:
    with pytest.raises(errors.UsageError, match=r"oversample: expected") as caught:
        binq.open(index).search([[0.0] * 48], oversample=0)
    assert "--" not in str(caught.value)


def test_only_the_command_line_spells_options() -> None:
    spelled = re.compile(r"[\"' ]--[a-z]")
    allowed = {"benchmark/processes.py"}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("cli/") and name not in allowed:
            lines = path.read_text().splitlines()
            found = [line for line in lines if spelled.search(line) and "``" not in line]
            assert not found, name


def test_errors_survive_pickling() -> None:
    for kind in (errors.UsageError, errors.InputError, errors.IndexFileError):
        again = pickle.loads(pickle.dumps(kind("what", "where", "a", "b", "next")))
        assert type(again) is kind
        assert str(again) == "what: where: expected a, got b; next"
    for kind in (errors.EnvironmentFailure, errors.MissingExtraError, errors.CheckFailed):
        assert str(pickle.loads(pickle.dumps(kind("what", "where")))) == "what: where"
