"""What services answer as one document is refused, with the `jq` line that makes lines of it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian

from binq.errors import InputError
from binq.vectors import open_vectors

VECTORS = gaussian(5, 12).round(3)
ROWS = [[round(value, 3) for value in row] for row in VECTORS.tolist()]
NAMES = list("abcde")

ANSWERS: dict[str, tuple[Any, list[str] | None, str]] = {
    # By a name that a shell has to be shielded from: the answer, the ids in it, the program.
    "OpenAI's answer.json": (
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(ROWS)
            ],
            "model": "m",
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        },
        None,
        "jq -c '.data[].embedding'",
    ),
    "cohere-1.json": (
        {"id": "x", "texts": NAMES, "embeddings": ROWS, "meta": {"api_version": {"version": "1"}}},
        None,
        "jq -c '.embeddings[]'",
    ),
    "cohere-2.json": (
        {"id": "x", "embeddings": {"float": ROWS}, "texts": NAMES},
        None,
        "jq -c '.embeddings.float[]'",
    ),
    "$(chroma).json": (
        {"ids": NAMES, "embeddings": ROWS, "documents": None, "metadatas": [{"page": 1}] * 5},
        NAMES,
        "jq -c '[.ids, .embeddings] | transpose[] | {id: .[0], embedding: .[1]}'",
    ),
    "qdrant.json": (
        {
            "result": {
                "points": [
                    {"id": name, "payload": {"at": [1.5, 2.5]}, "vector": row}
                    for name, row in zip(NAMES, ROWS, strict=True)
                ],
                "next_page_offset": None,
            },
            "status": "ok",
        },
        NAMES,
        "jq -c '.result.points[] | {id, embedding: .vector}'",
    ),
    "named vectors.json": (
        {"result": [{"_id": n, "vector": {"a b": r}} for n, r in zip(NAMES, ROWS, strict=True)]},
        NAMES,
        """jq -c '.result[] | {id: ._id, embedding: .vector."a b"}'""",
    ),
    "bare.json": (ROWS, None, "jq -c '.[]'"),
    "-x.json": (
        [{"id": n, "embedding": row} for n, row in zip(NAMES, ROWS, strict=True)],
        NAMES,
        "jq -c '.[] | {id, embedding}'",
    ),
}


@pytest.mark.parametrize("indent", [None, 2])
def test_the_line_that_is_named_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, (answer, ids, program) in ANSWERS.items():
        Path(name).write_text(json.dumps(answer, indent=indent))
        with pytest.raises(InputError, match="inside one JSON document") as caught:
            open_vectors(name)
        named, _, rest = caught.value.next_step.removeprefix("make lines of it: ").partition(" | b")
        assert rest == "inq … -"
        assert named.startswith(program + " ")
        with pytest.raises(InputError) as caught:
            open_vectors("-", stdin=io.BytesIO(Path(name).read_bytes()))
        assert caught.value.next_step == f"send it through: {program}"
        if shutil.which("jq") is None:
            continue
        lines = subprocess.run(["bash", "-c", named], capture_output=True, check=True).stdout
        with open_vectors("-", stdin=io.BytesIO(lines)) as source:
            [batch] = source.batches()
        assert batch.ids == ids
        np.testing.assert_array_equal(batch.vectors, np.array(ROWS, np.float32))


def test_of_a_large_answer_the_beginning_is_enough(tmp_path: Path) -> None:
    rows = gaussian(2, 60_000).tolist()
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"data": [{"object": "embedding", "embedding": r} for r in rows]}))
    with pytest.raises(InputError, match=r"vectors at .data\[\].embedding;"):
        open_vectors(path)


def test_lines_whose_vectors_stand_deeper(tmp_path: Path) -> None:
    """As batch services write them: one answer a line."""
    path = tmp_path / "batch.jsonl"
    for names, program in (
        ("id", "{id, embedding: .response.body.data[].embedding}"),
        ("_id", "{id: ._id, embedding: .response.body.data[].embedding}"),
        ("custom", ".response.body.data[].embedding"),
    ):
        answers = [
            {names: name, "response": {"body": {"data": [{"index": 0, "embedding": row}]}}}
            for name, row in zip(NAMES, ROWS, strict=True)
        ]
        path.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        with pytest.raises(InputError, match=r"row holds no vector.*row 0 line 1") as caught:
            list(open_vectors(path).batches())
        assert str(caught.value).endswith(f"; send the lines through: jq -c '{program}'")
        if shutil.which("jq"):
            made = subprocess.run(["jq", "-c", program, path], capture_output=True, check=True)
            with open_vectors("-", stdin=io.BytesIO(made.stdout)) as source:
                [batch] = source.batches()
            np.testing.assert_array_equal(batch.vectors, np.array(ROWS, np.float32))
            assert batch.ids == (None if names == "custom" else NAMES)


@pytest.mark.parametrize(
    "text",
    [
        '{"id": "a", "embedding": [1, 2, 3]}',
        '{"id": "a", "embedding": [1, 2, 3]}\n',
        '{"embedding": [1, 2, 3], "chunks": [[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]]}\n',
        "[1, 2, 3]\n",
        '\ufeff{"v": [1, 2, 3]}\n{"v": [4, 5, 6]}\n',
        '{"v": [1, 2, 3]}\n{"v": [[4], [5], [6]]}\n',
    ],
)
def test_lines_are_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(text)
    column = "embedding" if "chunks" in text else None
    with open_vectors(path, column=column) as source:
        assert source.dim == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "embedding": [1, null]}\n', "element is not a number"),
        ('{"a": [1, 2], "b": [3, 4]}\n', "several keys"),
        ('{"id": "a", "embedding": [1, 2,\n{"id": "b", "embedding": [3, 4]}\n', "line is not JSON"),
        ('{"x": [[1, 2], [3, 4]]}\n{"x": [[1, 2], [3, 4]]}\n', "no key holds|not a number"),
        ('{"data": []}\n', "not a number|no vector|dimension"),
        ("{\n", "line is not JSON"),
        ('{"a": {"b": "c"}}\n', "row holds no vector"),
        ("[" * 100_000, "line is not JSON"),
        # Whatever takes the square of its length would take minutes.
        ('["' + '\\"' * 200_000, "line is not JSON"),
        ("[" * 130_000 + "1," * 65_000, "line is not JSON"),
        ("[" * 900 + "1," * 130_000, "line is not JSON"),
        ('{"a":' * 50_000 + "[1, 2]", "line is not JSON"),
    ],
)
def test_what_is_no_document_keeps_its_message(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message), open_vectors(path) as source:
        list(source.batches())
