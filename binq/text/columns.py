"""Which columns of a file hold text and id, and rows as texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from binq.errors import InputError
from binq.types import ID_NAMES

_TEXT_NAMES: Final = (
    *("text", "contents", "content", "passage", "body", "sentence", "question", "query"),
)
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Text:
    """One text.

    Attributes
    ----------
    id : str or int, or None
        From the id column; None where there is none.
    text : str
        What to encode; may be blank.
    where : str
        File and row, for messages.
    fault : InputError or None
        Why the row cannot be used, if it cannot; then there is no text.
    """

    id: str | int | None
    text: str
    where: str
    fault: InputError | None = None

    @property
    def named(self) -> str:
        """File and row, and the id where there is one."""
        return _named(self.where, self.id)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that make up a text.

    Attributes
    ----------
    text : list of str
    id, title : str or None
    could_be_ids : list of str or None
        Columns that could hold ids, where none was found; None where that needs no saying.
    """

    text: list[str]
    id: str | None
    title: str | None
    could_be_ids: list[str] | None = None

    def names(self) -> list[str]:
        """Return the names of all columns that are read."""
        return [*self.text, *(name for name in (self.id, self.title) if name is not None)]

    def text_of(self, entry: dict[str, Any], where: str) -> Text:
        """Build a text from a row; a title may be missing, nothing else may.

        What is missing or of a wrong type is the fault of the text.
        """
        identity = None
        try:
            if self.id is not None:
                identity = _identity(entry, self.id, where)
            named = _named(where, identity)
            parts = [_string(entry, name, named) for name in self.text]
            if self.title is not None and entry.get(self.title):
                parts.insert(0, _string(entry, self.title, named))
        except InputError as error:
            return Text(identity, "", where, error)
        return Text(identity, " ".join(part for part in parts if part), where)


def choose_columns(
    names: list[str],
    strings: list[str],
    ids: list[str],
    where: str,
    *,
    text: list[str] | None,
    identity: str | None,
    id_names: Sequence[str] = ID_NAMES,
    optional_title: bool = False,
) -> Columns:
    """Settle which columns to read, from their names and from what they hold.

    Parameters
    ----------
    names, strings, ids : list of str
        All columns; those of them that hold strings; those that could hold ids.
    where : str
        The file or row, for messages.
    text, identity : optional
        What the user names; an empty id column: none.
    id_names : sequence of str
        Names of columns that hold ids, the first that can.
    optional_title : bool
        Whether rows may have a title although ``names`` does not say so.

    Raises
    ------
    InputError
        If a named column is not there, or none or several could be the text.
    """
    for name in (*(text or ()), *((identity,) if identity else ())):
        if name not in names:
            raise InputError("no such column", where, name, ", ".join(names) or "no columns")
    possible = [name for name in ids if name not in (text or ())]
    found_id = next((name for name in id_names if name in possible), None)
    id_name = found_id if identity is None else identity or None
    if text is not None:
        return Columns(text, id_name, None, _unless_named(possible, id_name, identity))
    others = [name for name in strings if name not in (id_name, "title")]
    # Where nothing holds strings, a name that says it should is the better thing to complain about.
    known = [name for name in _TEXT_NAMES if name in (others or names)]
    if not known and len(others) != 1:
        raise InputError(
            "several columns hold strings" if others else "no column holds text",
            where,
            "text" if not others else "",
            ", ".join(others or names),
            next_step="choose one with `text_column`",
        )
    # In jsonl a title may come and go from row to row.
    title = "title" if "title" in names or optional_title else None
    chosen = (known or others)[0]
    left = [name for name in possible if name not in (chosen, "title")]
    return Columns([chosen], id_name, title, _unless_named(left, id_name, identity))


def _unless_named(names: list[str], found: str | None, wanted: str | None) -> list[str] | None:
    return names if found is None and wanted is None else None


def _named(where: str, identity: str | int | None) -> str:
    return where if identity is None else f"{where} (id {str(identity)[:_SHOWN]})"


def _string(entry: dict[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name} is not a text", where, "a string", _kind_of(entry, name))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} holds half a surrogate pair", where, "Unicode text") from None
    return value


def _identity(entry: dict[str, Any], name: str, where: str) -> str | int:
    value = entry.get(name)
    if type(value) is int:
        return value
    if not isinstance(value, str):
        raise InputError(
            f"{name} is not an id", where, "a string or an integer", _kind_of(entry, name)
        )
    return _string(entry, name, where)


def _kind_of(entry: dict[str, Any], name: str) -> str:
    if name not in entry:
        return "nothing"
    value = entry[name]
    return "null" if value is None else type(value).__name__
