from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from binq.encoders.fingerprints import SHINGLE, FingerprintEncoder, Method, normalized
from binq.errors import UsageError

WORDS = [
    "".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=3 + i % 7))
    for i in range(2000)
]


def _edited(base: list[str], edits: int, seed: int) -> str:
    rng = random.Random(seed)
    words = list(base)
    for at in rng.sample(range(len(words)), edits):
        words[at] = rng.choice(WORDS)
    return " ".join(words)


def _shingles(text: str) -> Counter[str]:
    text = normalized(text)
    return Counter(text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1)))


def _cosine(a: Counter[str], b: Counter[str]) -> float:
    dot = sum(a[key] * b[key] for key in a)
    lengths = sum(v * v for v in a.values()) * sum(v * v for v in b.values())
    return dot / lengths**0.5


def _jaccard(a: Counter[str], b: Counter[str]) -> float:
    return len(a.keys() & b.keys()) / len(a.keys() | b.keys())


def _distances(codes: np.ndarray) -> np.ndarray:
    return np.unpackbits(codes[:1] ^ codes[1:], axis=1).sum(axis=1)


@pytest.mark.parametrize("length", [20, 120])
@pytest.mark.parametrize("method", ["simhash", "minhash"])
def test_the_expected_distance_is_the_documented_one(method: Method, length: int) -> None:
    # Many bits and several pairs: the mean of the deviations has a small standard error. Texts of
    # 20 words are short enough that a projection with anything but normal components would show.
    bits = 8192
    rng = random.Random(7)
    deviations = []
    for trial in range(6):
        base = rng.choices(WORDS, k=length)
        texts = [" ".join(base)]
        texts += [_edited(base, length * part // 20, 100 * trial + part) for part in (1, 3, 8, 20)]
        found = _distances(FingerprintEncoder(method, bits).encode(texts)) / bits
        counts = [_shingles(text) for text in texts]
        for distance, other in zip(found, counts[1:], strict=True):
            if method == "simhash":
                expected = np.arccos(min(1.0, _cosine(counts[0], other))) / np.pi
            else:
                expected = (1 - _jaccard(counts[0], other)) / 2
            spread = (expected * (1 - expected) / bits) ** 0.5
            assert abs(distance - expected) < 5 * spread + 0.004
            deviations.append(distance - expected)
    assert abs(np.mean(deviations)) < 0.002


@pytest.mark.parametrize("method", ["simhash", "minhash"])
def test_the_bits_are_balanced_and_independent(method: Method) -> None:
    # No two texts share a shingle to speak of, so that every bit is a fair coin of its own.
    rng = random.Random(3)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 5000)]
    texts = ["".join(rng.choices(letters, k=60)) for _ in range(800)]
    bits = np.unpackbits(FingerprintEncoder(method, 256).encode(texts), axis=1).astype(float)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.1
    correlation = np.corrcoef(bits.T) - np.eye(256)
    assert np.abs(correlation).max() < 0.2


def _mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & 2**64 - 1
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & 2**64 - 1
    return x ^ (x >> 31)


def _oracle(method: Method, bits: int, text: str) -> str:
    """Compute a code with Python's integers, one shingle and one bit at a time."""
    text = normalized(text)
    keys = []
    for start in range(max(1, len(text) - SHINGLE + 1)):
        key = 0x9E3779B97F4A7C15
        for character in text[start : start + SHINGLE]:
            key = _mix(key ^ ord(character))
        keys.append(key)
    mask32 = 2**32 - 1
    code = ""
    for word in np.random.PCG64(0x62696E71).random_raw(bits).tolist():
        mask, multiplier = word >> 32, word & mask32 | 1
        total, smallest = 0, mask32
        for key in keys:
            low, high = key & mask32, key >> 32
            product = (low ^ mask) * multiplier & mask32
            h = product ^ high
            h = (h ^ (h >> 16)) * 0x7FEB352D & mask32
            h = (h ^ (h >> 15)) * 0x846CA68B & mask32
            h ^= h >> 16
            total += sum(h.to_bytes(4, "little")) - 510
            smallest = min(smallest, (product ^ (product >> 15) ^ high) * multiplier & mask32)
        bit = total > 0 if method == "simhash" else _mix(multiplier << 32 | smallest) & 1
        code += str(int(bit))
    return f"{int(code, 2):0{bits // 4}x}"


@pytest.mark.parametrize("method", ["simhash", "minhash"])
def test_codes_never_change(method: Method) -> None:
    # Codes in an index outlive the process and the machine that made them.
    texts = ["The quick brown fox", "", "abc", "ünïcode \U0001f600", "word " * 200, "\ud800"]
    codes = FingerprintEncoder(method, 128).encode(texts)
    assert [code.tobytes().hex() for code in codes] == [_oracle(method, 128, t) for t in texts]


@pytest.mark.slow
def test_another_process_makes_the_same_codes() -> None:
    text = "Two processes, two hash seeds, one code."
    program = (
        "from binq.encoders.fingerprints import FingerprintEncoder as F;"
        f"print(F('minhash', 128).encode([{text!r}]).tobytes().hex())"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert found == FingerprintEncoder("minhash", 128).encode([text]).tobytes().hex()


@pytest.mark.parametrize("method", ["simhash", "minhash"])
def test_case_spacing_and_punctuation_make_no_difference(method: Method) -> None:
    codes = FingerprintEncoder(method, 256).encode(
        ["Hello, World! It is I.", "hello world\tit  is i", "ＨＥＬＬＯ world it is I"]
    )
    assert (codes == codes[0]).all()


@pytest.mark.parametrize("method", ["simhash", "minhash"])
def test_a_wider_code_begins_with_the_narrower_one(method: Method) -> None:
    texts = ["some text or other", "and another"]
    wide = FingerprintEncoder(method, 512).encode(texts)
    narrow = FingerprintEncoder(method, 64).encode(texts)
    np.testing.assert_array_equal(wide[:, :8], narrow)


def test_texts_do_not_influence_one_another() -> None:
    encoder = FingerprintEncoder("minhash", 64)
    texts = ["a", "bcd", "", "a longer text than the others", "日本語のテキスト"]
    together = encoder.encode(texts)
    for text, code in zip(texts, together, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], code)
    assert encoder.encode([]).shape == (0, 8)


@pytest.mark.parametrize("bits", [0, -8, 4, 63, 1 << 17])
def test_widths_that_do_not_work(bits: int) -> None:
    with pytest.raises(UsageError, match="multiple of 8"):
        FingerprintEncoder("simhash", bits)


def test_metadata() -> None:
    metadata = FingerprintEncoder("simhash", 128).metadata()
    assert metadata["binq.model"] == "simhash:128"
    assert metadata["binq.bits"] == "128"
    assert metadata["binq.layout"] == "ubinary"
