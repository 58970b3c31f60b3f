"""Bytes in and out: files that appear whole or not at all, streams, paths, fingerprints."""
