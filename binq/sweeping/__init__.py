"""Whether these embeddings can be binarized, and at what cost.

``data`` reads corpus and queries, ``plan`` says what is tried, ``measure`` fits, encodes and
searches each, ``baselines`` does so with faiss, ``recommend`` says what to build, ``results``
holds and ``report`` draws what was found, and ``sweep`` runs them all.
"""
