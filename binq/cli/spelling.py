"""How a parameter of the library is written on the command line."""

from __future__ import annotations

from typing import Any


def option(name: str, value: str | None) -> str:
    """Write a parameter as the option of its name."""
    spelled = "-k" if name == "k" else "--" + name.replace("_", "-")
    return spelled if value is None else f"{spelled} {value}"


class Spelling:
    """Writes parameters as one command takes them: as options, or as arguments.

    Parameters
    ----------
    command : click.Command or None
    """

    def __init__(self, command: Any) -> None:
        self._arguments = {
            param.name: param.metavar.strip("[].")
            for param in getattr(command, "params", ())
            if param.param_type_name == "argument" and param.metavar
        }

    def __call__(self, name: str, value: str | None) -> str:
        """Write a parameter, with its value where there is one."""
        if name in self._arguments and value is None:
            return str(self._arguments[name])
        return option(name, value)
