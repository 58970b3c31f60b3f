"""How a command is declared, and the options that several share, each written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import typer

from binq import types
from binq.cli import render
from binq.errors import UsageError

Option = tuple[Any, Any]
"""What typer reads of an option or argument: the annotation, and the default."""
Options = dict[str, Option]
"""Options by the names under which a function takes their values."""

_Number = TypeVar("_Number", int, float)
_BY_NAME: Final = inspect.Parameter.KEYWORD_ONLY
REQUIRED: Final = inspect.Parameter.empty
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="Print without colours.")]


def option(
    kind: Any, text: str, default: Any = None, *spellings: str, metavar: str | None = None
) -> Option:
    """Declare an option, spelled by its name unless ``spellings`` say otherwise.

    Parameters
    ----------
    kind : type
        Of its value, None aside.
    text : str
        The help; where it tells the default in words, typer is not to add it.
    default : optional
        `REQUIRED` where it has to be given.
    """
    told = typer.Option(
        *spellings, help=text, metavar=metavar, show_default="[default: " not in text
    )
    return Annotated[kind | None if default is None else kind, told], default


def flag(spelling: str, text: str) -> Option:
    """Declare an option that is there or is not."""
    return option(bool, text, False, spelling)


def argument(kind: Any, metavar: str, text: str, default: Any = REQUIRED) -> Option:
    """Declare an argument, which has its place and no name."""
    told = typer.Argument(metavar=metavar, help=text, show_default=False)
    return Annotated[kind | None if default is None else kind, told], default


def file(text: str) -> Option:
    """Declare an option that names a file."""
    return option(Path, text, metavar="FILE")


def output(text: str, metavar: str, default: Any = REQUIRED, kind: Any = Path) -> Option:
    """Declare where the result goes; a `Path` cannot be a URI."""
    return option(kind, text, default, "-o", "--output", metavar=metavar)


VECTORS: Final = argument(
    list[str],
    "VECTORS...",
    "npy, Parquet, Arrow, jsonl, fvecs, bvecs, fbin or u8bin files, globs, directories, s3:// and "
    "gs:// URIs, or - for stdin (jsonl or npy).",
)
INDEX: Final = argument(
    str, "INDEX", "An index: a file, a directory of shards, or the s3:// or gs:// URI of one."
)
QUERIES_HELP: Final = "Query vectors: files, globs or directories as for build, or - for stdin."
METRIC: Final = option(
    types.Metric,
    "What scores, rescoring and truth mean; ip and l2 take norms up to 2^62.",
    "cosine",
)
PACKED: Final = option(
    types.Packed, "What 8-bit data is: numbers (none), or packed bits in that layout."
)
ID_COLUMN: Final = option(
    str,
    "Column of the ids; empty: row numbers. [default: "
    + ", ".join(types.ID_NAMES)
    + ", or a named index of pandas]",
)
COLUMNS: Final[Options] = {
    "column": option(str, "Column of the vectors, if there are several."),
    "id_column": ID_COLUMN,
}
PROMPT: Final = option(str, "Put before every text. [default: the model's own]", metavar="TEXT")
MODEL_RUNS: Final[Options] = {
    "device": option(str, "Where a sentence-transformers model runs, such as cuda."),
    "key_file": file("Holds the key of an endpoint. [default: BINQ_API_KEY]"),
}
ON_ERROR: Final = option(
    types.OnError,
    "At a row that cannot be used: stop, or skip it, say so and go on.",
    types.DEFAULT_ON_ERROR,
)
OVERWRITE: Final = flag("--overwrite", "Replace files of another kind than what is written.")
ENGINE: Final = option(
    types.EngineName,
    "What does the work: this process, or a Ray cluster, the one that RAY_ADDRESS names or else "
    "one on this machine (extra ray).",
    types.DEFAULT_ENGINE,
)
THREADS: Final = option(int, "Threads to use. [default: all that the process may use]")
THREADS_OR_TASKS: Final = option(
    int,
    "Threads to use; with --engine ray those of each task, of which as many run at a time as there "
    "are CPUs for. [default: all that the process may use; on Ray 1]",
)
JSON: Final = flag("--json", "Print JSON.")

BINARIZER: Final[Options] = {
    "method": option(
        Literal[types.Method, "auto"],
        "How vectors become bits; auto picks on rows held out of the sample, and says what. "
        "[default: sign]",
    ),
    "bits": option(int, "Width of a code in bits; of packed input its true width."),
    "truncate_dim": option(int, "Binarize only the first so many dimensions."),
    "metric": METRIC,
    "seed": option(int, "Draws the sample to fit on.", 0),
    "sample": option(int, "Rows to fit on, at most.", types.DEFAULT_SAMPLE),
    "save_binarizer": file("Keep the binarizer as npz."),
    "binarizer": file("Use a binarizer kept by --save-binarizer."),
}
"""What ``build`` and ``binarize`` can be told about the binarizer."""


def command(options: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function that takes the values of these options by name a command.

    The command also takes ``--quiet`` and ``--no-color``, and sees to them.
    """
    every = options | {"quiet": (Quiet, False), "no_color": (NoColor, False)}

    def declared(function: Callable[..., None]) -> Callable[..., None]:
        def run(*, quiet: bool, no_color: bool, **values: Any) -> None:
            render.configure(quiet=quiet, no_color=no_color)
            function(**values)

        run.__doc__ = function.__doc__
        run.__annotations__ = {name: annotation for name, (annotation, _) in every.items()}
        vars(run)["__signature__"] = inspect.Signature(
            [
                inspect.Parameter(name, _BY_NAME, default=default, annotation=annotation)
                for name, (annotation, default) in every.items()
            ]
        )
        return run

    return declared


def words(text: str | None) -> list[str] | None:
    """Read words separated by commas, where there are any."""
    return None if text is None else text.split(",")


def whole_numbers(text: str, option: str) -> list[int]:
    """Read whole numbers separated by commas.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    return _numbers(int, text, option, "whole numbers", "1,10,100")


def numbers(text: str, option: str) -> list[float]:
    """Read numbers separated by commas, as :func:`whole_numbers` does."""
    return _numbers(float, text, option, "numbers", "0.8,0.95")


def _numbers(
    kind: Callable[[str], _Number], text: str, option: str, what: str, example: str
) -> list[_Number]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"not {what}", option, f"such as {example}", repr(text)) from None
