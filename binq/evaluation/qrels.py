"""Relevance judgements, and the measures that ``ir-measures`` computes from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from binq.errors import InputError, missing_extra

Qrels = dict[str, dict[str, int]]

LARGEST_GRADE: Final = 32_767
"""The measures count the judgements of every grade up to the largest."""


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Read judgements: BEIR's three tab-separated columns with a header, or TREC's four.

    Returns
    -------
    dict
        Grade by query id and document id.

    Raises
    ------
    InputError
        If the file is missing, a line is neither, or two contradict each other.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise InputError("no such file", str(path), next_step="check the path") from None
    except IsADirectoryError:
        raise InputError("not a file of judgements", str(path), "a file", "a directory") from None
    except UnicodeDecodeError as error:
        raise InputError("not a text file", str(path), "UTF-8") from error
    qrels: Qrels = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        beir = text.split("\t")
        trec = text.split()
        if len(beir) == 3:
            query, document, grade = beir
            if number == 1 and not _is_grade(grade):
                continue  # BEIR's header
        elif len(trec) == 4:
            query, _, document, grade = trec
        else:
            raise InputError(
                "not a judgement",
                f"{path} line {number}",
                "3 tab-separated columns (BEIR) or 4 columns (TREC)",
                f"{len(beir)} columns",
            )
        where = f"{path} line {number}"
        if not _is_grade(grade) or abs(int(grade)) > LARGEST_GRADE:
            raise InputError(
                "not a grade", where, f"a whole number of at most {LARGEST_GRADE}", repr(grade)
            )
        if qrels.setdefault(query, {}).setdefault(document, int(grade)) != int(grade):
            raise InputError(
                "two judgements contradict each other",
                f"{where}: query {query!r}, document {document!r}",
                f"grade {qrels[query][document]}, as before",
                grade,
            )
    if not qrels:
        raise InputError("no judgements", str(path), "at least one line", "none")
    return qrels


def _is_grade(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def measure(qrels: Qrels, rankings: dict[str, list[str]], k: int) -> dict[str, dict[str, float]]:
    """Compute nDCG, recall, reciprocal rank and average precision at k.

    Parameters
    ----------
    qrels : dict
        Only the queries that are in ``rankings`` count.
    rankings : dict
        Document ids of every query, best first; a repeated id counts at its best rank.
    k : int

    Returns
    -------
    dict
        Value by measure (in the names of ``ir-measures``, such as ``nDCG@10``) and query id.

    Raises
    ------
    MissingExtraError
        If ``ir-measures`` is not installed.
    InputError
        If no query is judged.
    """
    try:
        import ir_measures
        from ir_measures import AP, RR, R, nDCG
    except ImportError as error:
        raise missing_extra("ir-measures", "ir", "`qrels`") from error
    judged = {query: qrels[query] for query in rankings if query in qrels}
    if not judged:
        raise InputError("no query has a judgement", expected="query ids of the qrels")
    run = {}
    for query in judged:
        unique = list(dict.fromkeys(rankings[query]))
        # The tools sort by score; minus the rank keeps our order where scores tie.
        run[query] = {document: -float(rank) for rank, document in enumerate(unique)}
    wanted = [kind @ k for kind in (nDCG, R, RR, AP)]
    values: dict[str, dict[str, float]] = {str(name): {} for name in wanted}
    for entry in ir_measures.iter_calc(wanted, judged, run):
        values[str(entry.measure)][entry.query_id] = float(entry.value)
    for found in values.values():
        for query in judged:
            found.setdefault(query, 0.0)
    return values
