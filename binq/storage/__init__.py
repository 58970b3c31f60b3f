"""The ``.binq`` file, specified in docs/format.md: its bytes, its writer, its reader.

``preamble`` and ``format`` are the bytes, ``features`` what a reader must know, ``sections`` and
``ids`` what the sections mean.
"""
