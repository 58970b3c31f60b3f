"""The exception tree: codes, builtin relatives, one-line messages."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from binq import errors
from binq.errors import BinqError, ExitCode

# What scripts rely on; written out, so that a change is seen.
CODES = {
    "DONE": 0,
    "BUG": 1,
    "USAGE": 2,
    "INPUT": 3,
    "INDEX": 4,
    "ENVIRONMENT": 5,
    "CHECK": 6,
    "SIGINT": 130,
    "CLOSED_PIPE": 141,
    "SIGTERM": 143,
}
TREE = {
    errors.UsageError: (2, ValueError),
    errors.InputError: (3, ValueError),
    errors.IndexFileError: (4, Exception),
    errors.EnvironmentFailure: (5, OSError),
    errors.MissingExtraError: (5, ImportError),
    errors.CheckFailed: (6, Exception),
}


def test_exit_codes() -> None:
    assert {code.name: code.value for code in ExitCode} == CODES


@pytest.mark.parametrize("kind", TREE)
def test_tree(kind: type[BinqError]) -> None:
    code, relative = TREE[kind]
    assert issubclass(kind, BinqError)
    assert issubclass(kind, relative)
    assert kind.exit_code == code


def test_every_error_has_a_code_of_its_own_kind() -> None:
    assert set(BinqError.__subclasses__()) == set(TREE)
    assert BinqError.exit_code == ExitCode.BUG


def test_message_has_four_parts() -> None:
    error = errors.InputError("ragged", "a.npy row 3", "dim 4", "dim 5", "pad it")
    assert str(error) == "ragged: a.npy row 3: expected dim 4, got dim 5; pad it"
    assert str(errors.InputError("ragged")) == "ragged"
    assert str(errors.UsageError("bad", got="5")) == "bad: got 5"
    assert str(errors.UsageError("bad", next_step="stop")) == "bad; stop"


@pytest.mark.parametrize("kind", TREE)
@pytest.mark.parametrize("nasty", ["a\nb", "a\tb\r", "\x1b[31m", "\u2028", "\udcff", "\0"])
def test_message_is_one_printable_line(kind: type[BinqError], nasty: str) -> None:
    text = str(kind("what", f"in {nasty}", nasty, nasty, nasty))
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    text.encode()


def test_no_message_has_the_credentials_of_a_uri() -> None:
    for uri, shown in (
        ("s3://ID:hush@bucket/k", "s3://***@bucket/k"),
        ("s3:/ID:hu/sh@bucket/k", "s3:/***@bucket/k"),
        ("https://hush@host/k@v", "https://***@host/k@v"),
        ("S3://b/k?access_key=ID&secret_key=hush", "S3://b/k?***"),
        ("s3://b/k?endpoint_override=http://ID:hush@host", "s3://b/k?***"),
    ):
        error = errors.InputError("no such file", uri, got=uri, next_step=f"see {uri}")
        assert str(error) == f"no such file: {shown}: got {shown}; see {shown}"
    for fine in ("s3://b/a@b", "http://localhost:80/v1", "a@b: c", "/a?b", "file:///a/b:c@d"):
        assert str(errors.InputError("no", fine)) == f"no: {fine}"


def test_missing_extra_says_how_to_get_it() -> None:
    error = errors.missing_extra("ir-measures", "ir", "qrels")
    assert str(error) == (
        "qrels needs the package ir-measures; install it with: pip install 'binq[ir]'"
    )


def test_standard_library_only() -> None:
    code = (
        "import sys, binq.errors;"
        "print([n for n in sys.modules if n.split('.')[0] in ('numpy','typer','rich','pyarrow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_and_warnings_survive_the_way_to_another_process() -> None:
    from binq.encoders import transport  # has errors of its own

    assert issubclass(transport.RefusedError, BinqError)
    kinds: list[type[BinqError]] = [BinqError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        error = kind("what `k=3`", "where", "this", "that", "use `engine=ray`")
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.exit_code) == (kind, str(error), error.exit_code)
        assert copy.line(lambda name, _: name.upper()) == error.line(lambda name, _: name.upper())
    assert len(kinds) > len(TREE) + 1
    warning = pickle.loads(pickle.dumps(errors.BinqWarning(errors.Marked("see `k`"))))
    assert warning.args[0].marked == "see `k`"
