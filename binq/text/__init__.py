"""Texts and their ids from files of any usual kind, streamed."""

from __future__ import annotations

from binq.text.columns import Text
from binq.text.source import TextSource, batched

__all__ = ["Text", "TextSource", "batched"]
