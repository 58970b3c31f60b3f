from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from binq.errors import InputError
from binq.vectors.groups import DecodedGroups

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


def blocks(rows: np.ndarray = ROWS, error: Exception | None = None) -> Iterator[np.ndarray]:
    yield rows[:4]
    if error is not None:
        raise error
    yield rows[4:]


def never() -> Iterator[np.ndarray]:
    pytest.fail("decoded once more")


def test_a_group_is_kept_when_it_is_wanted_again() -> None:
    groups = DecodedGroups()
    for number in range(3):
        key = ("a", number)
        assert groups.get(key, (6, 2), never) is None
        found = groups.get(key, (6, 2), lambda n=number: blocks(ROWS + n))  # type: ignore[misc]
        assert np.array_equal(found, ROWS + number)
    for number in range(3):
        assert np.array_equal(groups.get(("a", number), (6, 2), never), ROWS + number)
    groups.close()
    assert groups.get(("a", 0), (6, 2), never) is None


@pytest.mark.parametrize("error", [OSError(28, "no space left"), InputError("bad row")])
def test_what_cannot_be_kept_is_not_tried_again_and_harms_no_other(error: Exception) -> None:
    groups = DecodedGroups()
    for _ in range(2):
        assert groups.get(("bad", 0), (6, 2), lambda: blocks(error=error)) is None
        assert groups.get(("huge", 0), (2**50, 2), never) is None
    assert groups.get(("bad", 0), (6, 2), never) is None
    assert groups.get(("good", 0), (6, 2), never) is None
    assert np.array_equal(groups.get(("good", 0), (6, 2), blocks), ROWS)
    groups.close()
