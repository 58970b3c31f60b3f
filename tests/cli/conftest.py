"""What tests of commands share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli.kinds import DIM
from corpora import gaussian


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Five queries of indexes of all kinds."""
    np.save(tmp_path / "q.npy", gaussian(5, DIM, seed=9))
    return tmp_path / "q.npy"
