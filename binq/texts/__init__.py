"""Texts and their ids from files of any usual kind, streamed."""

from __future__ import annotations

from binq.texts.columns import Text
from binq.texts.source import KINDS, Kind, TextSource, batched

__all__ = ["KINDS", "Kind", "Text", "TextSource", "batched"]
