"""Texts and their ids from files of any usual kind, streamed."""

from __future__ import annotations

from binq.text.columns import Text
from binq.text.source import KINDS, Kind, TextSource, batched

__all__ = ["KINDS", "Kind", "Text", "TextSource", "batched"]
