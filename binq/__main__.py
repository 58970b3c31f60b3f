"""The command ``binq``, also ``python -m binq``: sees to signals before it loads anything slow."""

from __future__ import annotations

import os
import signal


def run() -> None:
    """Be the process of a command.

    Until the command runs there is nothing to clean up: SIGINT and SIGTERM end it at once.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    try:
        from binq.cli.app import run as command
    except (ImportError, OSError, MemoryError) as error:
        reason = " ".join(str(error).split()) or "out of memory"
        os.write(2, f"binq: error: binq cannot be loaded: {reason}; see ulimit -n, -v\n".encode())
        os._exit(5)
    command()


def _leave(number: int, _frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    run()
