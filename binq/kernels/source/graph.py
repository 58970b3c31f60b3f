"""Kernels of a proximity graph over codes (source; imported only to be compiled)."""

from __future__ import annotations

from functools import partial
from typing import Any

from numba import cfunc, types

from binq.kernels.source import graph_links, graph_search, graph_walk
from binq.kernels.source.features import Features

_I32 = types.CPointer(types.int32)
_I64 = types.CPointer(types.int64)
_U32 = types.CPointer(types.uint32)
_U64 = types.CPointer(types.uint64)
_INT = types.intp


def kernels(features: Features) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled functions of this family for a CPU, and the bytes of scratch they need."""
    void = types.void
    compiled = partial(cfunc, error_model="numpy")
    walk = graph_walk.walks(features.lanes)
    links = graph_links.link_kernels(walk)
    numbers = (_INT,) * 4
    signatures = {
        "search": void(
            types.CPointer(_U64), _U64, _INT, *numbers, _U64, _I64, _I32, _I64, _U64, *numbers,
        ),
        "insert": void(
            _U64, _INT, _INT, _U32, _INT, _U32, _INT, _U32, _INT, _INT, _INT, _INT, _U32, _U64,
            *numbers,
        ),
        "link": void(
            _U64, _INT, _U32, _INT, _INT, _INT, _U64, _I64, _INT, _INT, _U64, _U64
        ),
        "cut": void(_U64, _INT, _U32, *numbers, _INT, _U32, _U64, _U64),
        "reach": void(_U32, _INT, _INT, _U32, _U32, _I64, _INT),
        "mend": void(_U32, _INT, _INT, _U32, _INT, _I64),
    }  # fmt: skip
    sources = {
        "search": graph_search.search_kernel(walk), **links,
        "reach": graph_links.reach, "mend": graph_links.mend,
    }  # fmt: skip
    found = {name: compiled(signatures[name])(source) for name, source in sources.items()}
    layout = {
        "walk.scratch": graph_walk.FIXED,
        "walk.scratch_per_word": graph_walk.PER_WORD,
        "walk.scratch_per_neighbour": graph_walk.PER_NEIGHBOUR,
        "walk.scratch_per_slot": graph_walk.PER_SLOT,
        "walk.scratch_per_mark": graph_walk.PER_MARK,
        "link.scratch": graph_links.FIXED,
        "none": graph_walk.NONE,
    }
    layout |= {f"search.{name}": place for place, name in enumerate(graph_search.GIVEN)}
    layout |= {f"search.{name}": place for place, name in enumerate(graph_search.NUMBERS)}
    return found, layout
