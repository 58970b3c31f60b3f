"""Structures over codes: what finds candidates."""
