"""Whether these embeddings can be binarized, and at what cost.

``gathering`` reads corpus and queries, ``plan`` says what is tried, ``measuring`` fits, encodes and
searches each, ``peers`` does what binq is compared with, ``choosing`` recommends, and
``workflow.sweep`` runs them all.
"""
