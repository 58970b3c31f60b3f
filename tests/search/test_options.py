"""The options of a search stand once: as a dataclass, as keywords, on the command line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian

from binq.cli.search_options import OPTIONS
from binq.errors import BinqWarning, InputError, UsageError
from binq.index.index import Index
from binq.index.stream import query
from binq.search.options import SearchOptions, SearchSettings
from binq.vectors import open_vectors


def test_the_same_names_everywhere() -> None:
    names = [field.name for field in fields(SearchOptions)]
    assert sorted(SearchSettings.__annotations__) == sorted(names)
    # Where a search runs is no part of what it finds.
    assert [name for name in OPTIONS if name != "engine"] == names
    for field in fields(SearchOptions):
        assert SearchSettings.__annotations__[field.name].__forward_arg__ == field.type


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rescore": "int4"}, "rescore: expected auto"),
        ({"scoring": "cosine"}, "scoring: expected hamming"),
        ({"oversample": 0.5}, "oversample: expected"),
        ({"oversample": float("nan")}, "oversample: expected"),
        ({"oversample": float("inf")}, "oversample: expected"),
        ({"oversample": "much"}, "oversample: expected"),
        ({"target_recall": 1.0}, "target_recall: expected above 0 and below 1"),
        ({"rescore": "none", "rescore_from": "x.npy"}, "rescore_from already"),
        ({"rescore_column": "v"}, "rescore_column goes with"),
    ],
)
def test_values_that_make_no_sense(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        SearchOptions(**settings)


def test_the_callers_sources_stay_open(index: Path, corpus: Path, queries: Path) -> None:
    """Both kinds: what is rescored by, and the queries themselves."""
    ix = Index(index)
    with open_vectors(str(corpus)) as originals, open_vectors(str(queries)) as asked:
        closed: list[str] = []
        for source in (originals, asked):
            source.close = lambda name=source.name: closed.append(name)  # type: ignore[method-assign]
        for _ in range(2):
            ix.search(gaussian(2, 48, seed=1), rescore_from=originals)
            assert len(list(query(ix, asked, 3))) == 1
        assert not closed
        del originals.close, asked.close


def test_another_model_is_refused_for_rescoring(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    import binq

    x = gaussian(30, 8)
    column = pa.FixedSizeListArray.from_arrays(x.ravel(), 8)
    paths = []
    for model in ("one", "two"):
        schema = pa.schema(
            [("a", column.type), ("b", column.type)],
            metadata={"binq.model": model, "binq.model_revision": model},
        )
        paths.append(tmp_path / f"{model}.parquet")
        pq.write_table(pa.table([column, column], schema=schema), paths[-1])
    binq.build(str(paths[0]), tmp_path / "i.binq", column="a")
    ix = Index(tmp_path / "i.binq")
    ours = ix.search(x[:3], 4, rescore_from=str(paths[0]), rescore_column="a")
    assert np.allclose(ours.scores[:, 0], 1)
    with pytest.raises(InputError, match="choose one with rescore_column"):
        ix.search(x[:3], 4, rescore_from=str(paths[0]))
    with pytest.raises(InputError, match="another model"):
        ix.search(x[:3], 4, rescore_from=str(paths[1]), rescore_column="a")
    with pytest.warns(BinqWarning, match="another fingerprint"):
        ix.search(x[:3], 4, rescore_from=str(paths[1]), rescore_column="a", force=True)
