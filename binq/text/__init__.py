"""Texts and their ids from files of any usual kind, encoded into files or as questions."""
