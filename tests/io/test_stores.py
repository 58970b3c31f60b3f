"""What a URI names, and what is said of a store that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stores import KEY_ID, SECRET

from binq.errors import EnvironmentFailure, InputError, UsageError
from binq.io.paths import expand
from binq.io.stores import is_uri, locate, translated


def test_what_is_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ("s3://b/k", "gs://b/k", "file:///a/b"):
        assert is_uri(uri)
    for path in ("a:b.npy", "/x:/y", "C:/x", "s3:x", "-", "a/s3://b", "shard:1/x", Path("a:b")):
        assert not is_uri(path)
    for wrong in ("s3:/b/k", "http://h/x.npy", "https://h", "hdfs://h/x", "gcs://b/k", "file:/a"):
        with pytest.raises(UsageError, match="s3://BUCKET/KEY, gs://BUCKET/KEY or file:///PATH"):
            is_uri(wrong)
    with pytest.raises(UsageError, match="give a URI as a string"):
        is_uri(Path("s3://b/k"))
    # What is there is a path, whatever it looks like.
    os.makedirs("http:/h")
    Path("http:/h/x.npy").touch()
    assert expand(["http://h/x.npy"]) == ["http://h/x.npy"]


def test_what_a_uri_names() -> None:
    found = locate("s3://b/a%20b/k%3F.npy?endpoint_override=h%3A9000&scheme=http")
    assert (found.scheme, found.path) == ("s3", "b/a b/k?.npy")
    assert found.options == (("endpoint_override", "h:9000"), ("scheme", "http"))
    assert found.shown == "s3://b/a%20b/k%3F.npy"
    assert locate("file:///a/b").path == "/a/b"
    for wrong in (
        "s3://",
        "s3:///k",
        "s3://b//k",
        "file://a",
        "file:///",
        "s3://b/%00",
        "s3://h:9000/b/k",
    ):
        with pytest.raises(UsageError, match="names no object"):
            locate(wrong)
    for wrong in (
        "s3://me:hush@b/k",
        "s3://b/k?hush=1",
        "s3://b/k?scheme=me:hush@h",
        "s3://hush@b",
        "s3://me:hush%40b/k",
        "s3://me:hu/sh@b/k",
    ):
        with pytest.raises(UsageError) as error:
            locate(wrong)
        assert "hu" not in error.value.where


def test_no_credential_is_in_what_a_store_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    said = {
        f"AWS Error ACCESS_DENIED during HeadObject operation: {SECRET}": "refuses access",
        f"AWS Error UNKNOWN (HTTP status 503) during PutObject operation: {KEY_ID}": "failed",
        f"google::cloud::Status(UNAUTHENTICATED: ya29.{SECRET})": "refuses access",
        f"something else: {SECRET} of {KEY_ID}": "failed",
    }
    for text, what in said.items():
        match = f"the store {what}: s3://b/k"
        with pytest.raises(EnvironmentFailure, match=match) as error, translated("s3://b/k"):
            raise OSError(text)
        assert error.value.exit_code == 5
        assert error.value.__cause__ is None
        assert error.value.__suppress_context__
        for secret in (SECRET, KEY_ID, "ya29"):
            assert secret not in str(error.value)
    with pytest.raises(InputError, match="no such object: s3://b/k"), translated("s3://b/k"):
        raise FileNotFoundError
