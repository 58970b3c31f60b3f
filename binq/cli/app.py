"""The application, and the one boundary at which errors become exit codes."""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from binq.cli import options as opt
from binq.cli import process, render
from binq.cli.spelling import Spelling, option
from binq.errors import BinqError, ExitCode, Spell, UsageError
from binq.version import __version__


class _Commands(Mapping[str, Any]):
    """The subcommands, each made when it is asked for: seven others cost as much as a search."""

    functions: Final = {
        "encode": "encode",
        "binarize": "binarize",
        "build": "build",
        "query": "query",
        "eval": "evaluate",
        "sweep": "sweep",
        "bench": "bench",
        "info": "info",
        "compact": "compact",
    }
    """What stands in the module of the same name."""

    def __getitem__(self, name: str) -> Any:
        function = self.functions[name]
        own = typer.Typer(add_completion=False, rich_markup_mode=None)
        own.command(name)(getattr(import_module(f"binq.cli.{function}"), function))
        return typer.main.get_command(own)

    def __iter__(self) -> Iterator[str]:
        return iter(self.functions)

    def __len__(self) -> int:
        return len(self.functions)


class _Boundary(TyperGroup):
    """Runs a command and turns whatever it raises into one line and an exit code."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()  # type: ignore[assignment]  # nothing adds to it

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command; said here, before its other options are looked at: what has moved."""
        if args[:1] == ["eval"] and "--sweep" in args:
            raise UsageError("eval has no --sweep", next_step="use binq sweep")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except BaseException as error:
            if os.environ.get("BINQ_DEBUG") == "1":
                traceback.print_exc()
            spell: Spell = option
            if isinstance(error, BinqError):
                spell = Spelling(self.commands.get(ctx.invoked_subcommand))
            raise typer.Exit(_report(error, spell)) from None


app = typer.Typer(
    cls=_Boundary,
    name="binq",
    help="Binary embeddings: floats to bits, one index file, exact Hamming search, honest recall.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich help costs more than all else that --help loads
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        render.line(f"binq {__version__}")
        raise typer.Exit


@app.callback()
def _settings(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    del version  # its callback did the work
    render.remember(quiet=quiet, no_color=no_color)


def run() -> NoReturn:
    """Be the process: run the command line, and end at once with its code.

    All output is flushed and every file closed by then; taking apart what was imported would only
    add an eighth to the time of a short query.
    """
    gc.set_threshold(50_000)  # imports make objects that stay: looking for garbage finds none
    process.end_soon()
    try:
        main()
    except SystemExit as left:
        os._exit(left.code if isinstance(left.code, int) else ExitCode.BUG)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    _prepare_streams()
    try:
        with process.interruptible():
            code = app(standalone_mode=False, prog_name="binq")
    except BaseException as error:
        code = _report(error)
    _leave(_flushed(code if isinstance(code, int) else ExitCode.DONE))


def _prepare_streams() -> None:
    """Let output fail aloud, to a stream that was closed (``>&-``) and where buffering is off."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # For reading: writing to it is refused, and not lost in silence.
            descriptor = os.open(os.devnull, os.O_RDONLY)
            setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8"))
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        # Without a buffer (python -u) a write may take a part of the data and call it done.
        sys.stdout = os.fdopen(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)


def _report(error: BaseException, spelling: Spell = option) -> int:
    """Print the one line that an error deserves, and return its exit code."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, OSError):
        error = error.__context__  # typer exits by itself where help meets a closed pipe
    if isinstance(error, BrokenPipeError):
        return ExitCode.CLOSED_PIPE
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return ExitCode.SIGINT
    if isinstance(error, process.Terminated):
        return ExitCode.SIGTERM
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.BUG
    if isinstance(error, BinqError):
        render.error(error.line(spelling))
        return error.exit_code
    if isinstance(error, MemoryError):
        render.error("out of memory; use a smaller --sample, fewer queries or a smaller k")
        return ExitCode.ENVIRONMENT
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        render.error("no more threads are allowed; use fewer --threads, or see ulimit -u, -v")
        return ExitCode.ENVIRONMENT
    if isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno is None):
        # Of many lines, such as numpy's, the last that is not empty tells the reason.
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        render.error(f"a library cannot be loaded: {reason}; see ulimit -n, -v, or install it anew")
        return ExitCode.ENVIRONMENT
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        render.error(f"the system refused{where}: {(error.strerror or str(error)).lower()}")
        return ExitCode.ENVIRONMENT
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        command = getattr(context, "command_path", "binq")
        message = str(error.format_message())
        if type(error).__name__ == "NoArgsIsHelpError":
            render.help_text(message)
        else:
            render.error(f"{' '.join(message.split()).rstrip('.')}; see {command} --help")
        return ExitCode.USAGE
    render.error(
        f"a bug in binq: {type(error).__name__}: {error}; "
        "set BINQ_DEBUG=1 to see where, and report it"
    )
    return ExitCode.BUG


def _flushed(code: int) -> int:
    """Flush stdout while its failure can still be reported."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _report(error) if code == ExitCode.DONE else code
    return code


def _leave(code: int) -> NoReturn:
    """Exit; what could not be written to stdout or stderr is not tried again on the way out."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
