from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from columnar_files import WRITERS


@pytest.fixture(params=WRITERS)
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    def save(columns: dict[str, Any], metadata: dict[str, str] | None = None) -> Path:
        path = tmp_path / "v.data"
        WRITERS[request.param](path, pa.table(columns, metadata=metadata))
        return path

    return save
