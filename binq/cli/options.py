"""Options that several commands share, each written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from binq import types
from binq.errors import UsageError

VectorsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="VECTORS...",
        help="npy, Parquet, Arrow, jsonl, fvecs, bvecs, fbin or u8bin files, globs, directories, "
        "or - for stdin (jsonl or npy).",
        show_default=False,
    ),
]
IndexArgument = Annotated[
    Path, typer.Argument(metavar="INDEX", help="An index file.", show_default=False)
]
QueriesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="QUERIES...",
        help="Query vectors: files, globs or directories as for build, or - for stdin.",
        show_default=False,
    ),
]
Method = Annotated[
    Literal[types.Method, "auto"] | None,
    typer.Option(
        "--method",
        help="How vectors become bits; auto picks on rows held out of the sample, and says what. "
        "[default: sign]",
        show_default=False,
    ),
]
Bits = Annotated[
    int | None,
    typer.Option(
        "--bits",
        help="Width of a code in bits; of packed input its true width.",
        show_default=False,
    ),
]
TruncateDim = Annotated[
    int | None,
    typer.Option(
        "--truncate-dim", help="Binarize only the first so many dimensions.", show_default=False
    ),
]
Metric = Annotated[
    types.Metric, typer.Option("--metric", help="What scores, rescoring and truth mean.")
]
Seed = Annotated[int, typer.Option("--seed", help="Draws the sample to fit on.")]
Sample = Annotated[int, typer.Option("--sample", help="Rows to fit on, at most.")]
SaveBinarizer = Annotated[
    Path | None,
    typer.Option(
        "--save-binarizer", metavar="FILE", help="Keep the binarizer as npz.", show_default=False
    ),
]
LoadBinarizer = Annotated[
    Path | None,
    typer.Option(
        "--binarizer",
        metavar="FILE",
        help="Use a binarizer kept by --save-binarizer.",
        show_default=False,
    ),
]
Packed = Annotated[
    types.Packed | None,
    typer.Option(
        "--packed",
        help="What 8-bit data is: numbers (none), or packed bits in that layout.",
        show_default=False,
    ),
]
Column = Annotated[
    str | None,
    typer.Option(
        "--column", help="Column of the vectors, if there are several.", show_default=False
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option("--id-column", help="Column of the ids. [default: id or _id]", show_default=False),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Threads to use. [default: all that the process may use]",
        show_default=False,
    ),
]
QueryModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Encodes --text; as for encode, and the model of the index. [default: the built-in "
        "model or fingerprints, where the index names them]",
        show_default=False,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="Put before every text. [default: the model's own]",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where a sentence-transformers model runs, such as cuda.",
        show_default=False,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="Holds the key of an endpoint. [default: BINQ_API_KEY]",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="Print without colours.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


BINARIZER: Final[dict[str, tuple[Any, Any]]] = {
    "method": (Method, None),
    "bits": (Bits, None),
    "truncate_dim": (TruncateDim, None),
    "metric": (Metric, "cosine"),
    "seed": (Seed, 0),
    "sample": (Sample, types.DEFAULT_SAMPLE),
    "save_binarizer": (SaveBinarizer, None),
    "binarizer": (LoadBinarizer, None),
}
"""What ``build`` and ``binarize`` can be told about the binarizer, with the defaults."""


def takes(
    place: str, options: Mapping[str, tuple[Any, Any]]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options, each an annotation and a default.

    They stand where its parameter ``place`` does, which gets their values by name.
    """

    def given(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            if parameter.name != place:
                parameters.append(parameter)
                continue
            parameters += [
                parameter.replace(name=name, annotation=annotation, default=default)
                for name, (annotation, default) in options.items()
            ]

        @wraps(command)
        def collected(**values: Any) -> None:
            command(**{place: {name: values.pop(name) for name in options}}, **values)

        vars(collected)["__signature__"] = own.replace(parameters=parameters)
        collected.__annotations__ = {part.name: part.annotation for part in parameters}
        del collected.__wrapped__  # typer would look behind it
        return collected

    return given


def whole_numbers(text: str, option: str) -> list[int]:
    """Read whole numbers separated by commas.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError("not whole numbers", option, "such as 1,10,100", repr(text)) from None
