"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from binq.errors import UsageError

DEFAULT_SAMPLE: Final = 100_000


MethodName = Literal[
    "sign", "mean", "median", "lsh", "rotate", "itq", "rabitq", "learned", "ste", "auto"
]
MetricName = Literal["cosine", "ip", "l2"]
ScoringName = Literal["hamming", "asymmetric"]
LayoutName = Literal["ubinary", "binary", "lsb"]
PackedName = Literal["none", "ubinary", "binary", "lsb"]
PayloadName = Literal["none", "int8", "float16", "float32"]
RescoreName = Literal["auto", "none", "codes", "int8", "float16", "float32"]
FormatName = Literal["table", "jsonl", "tsv", "trec", "parquet"]

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
    MethodName | None,
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
    MetricName, typer.Option("--metric", help="What scores, rescoring and truth mean.")
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
    PackedName | None,
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
Scoring = Annotated[
    ScoringName | None,
    typer.Option(
        "--scoring",
        help="The scan. [default: the one the index was built for]",
        show_default=False,
    ),
]
Rescore = Annotated[
    RescoreName | None,
    typer.Option(
        "--rescore",
        help="What sorts the survivors: a payload stored by build --rescore, the codes with the "
        "whole query, or none. [default: auto]",
        show_default=False,
    ),
]
RescoreFrom = Annotated[
    str | None,
    typer.Option(
        "--rescore-from",
        metavar="VECTORS",
        help="Sort the survivors by the file the index was built from.",
        show_default=False,
    ),
]
Oversample = Annotated[
    str,
    typer.Option(
        "--oversample",
        metavar="X",
        help="Rescore k times so many survivors; auto decides query by query.",
    ),
]
TargetRecall = Annotated[
    float | None,
    typer.Option(
        "--target-recall",
        help="With --oversample auto: the share of the scan's best to keep. [default: 0.99]",
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
Force = Annotated[
    bool,
    typer.Option("--force", help="Take vectors although another model made them than the index."),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="Print without colours.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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


def oversample_of(text: str) -> float | Literal["auto"]:
    """Read the value of ``--oversample``.

    Raises
    ------
    UsageError
        If it is neither a number nor ``auto``.
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError("not a number", "--oversample", "a number or auto", repr(text)) from None
