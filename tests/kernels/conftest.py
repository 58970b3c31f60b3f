"""The kernels of this CPU, and those of others as far as this one runs them."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binq.kernels import hamming
from binq.kernels.aot import compile as aot
from binq.kernels.scan import Engine

SSSE3, AVX2 = "llvm.x86.ssse3.pshuf.b.128", "llvm.x86.avx2.pshuf.b"
FEATURES: dict[str, Any] = {
    "native": None,
    "counts": (16, None, True),
    "wide": (32, AVX2, False),
    "narrow": (16, SSSE3, False),
    "portable": (16, None, False),
}


def _asked(family: aot.Family, lanes: int, shuffle: Any, counts: bool) -> dict[str, Any]:
    """Return those features that the source of a family asks for: by these its kernels differ."""
    source = Path(aot.__file__).parents[1] / "source" / f"{family.name}.py"
    given = {"lanes": lanes, "shuffle": bool(shuffle), "counts": counts}
    return {name: given[name] for name in re.findall(r"\bfeatures\.(\w+)", source.read_text())}


# Those of other CPUs have to be compiled first.
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in FEATURES if name != "native"]


@pytest.fixture(params=["native", *OTHERS, "numpy"], scope="module")
def engine_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Engine]:
    """Make the engine of a family: ``engine_of(family, rows_per_block=...)``."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # the workers share what they compile
    library = aot.load(hamming.FAMILY)
    native = library.layout
    own = native["lanes"], native["shuffle"], "scan_counts" in library.functions
    needed = {"wide": native["lanes"] == 32, "narrow": native["shuffle"]}
    if not needed.get(request.param, True) or (
        "x86" not in aot.host_target().triple and request.param in needed
    ):
        pytest.skip("instructions that this CPU lacks")

    def make(family: aot.Family, **changes: Any) -> Engine:
        if request.param == "numpy":
            if family.name == "asymmetric":
                pytest.skip("numpy does not stand in for it")
            return Engine(None, **changes)
        features = FEATURES[request.param]
        if features is None:
            return Engine(aot.load(family), **changes)
        names = list(FEATURES)
        before = [own, *(FEATURES[name] for name in names[1 : names.index(request.param)])]
        if _asked(family, *features) in [_asked(family, *other) for other in before]:
            pytest.skip("the same kernels as of another CPU")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BINQ_CACHE_DIR", str(place / "engines"))
            # Workers that need the same at once would each compile it.
            with open(place / f"{family.name}-{request.param}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return Engine(aot.load(replace(family, features=features)), **changes)

    return make
