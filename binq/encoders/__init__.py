"""Text to embeddings or codes: the built-in model, other backends, endpoints, fingerprints.

=========================  ======================================================
module                     holds
=========================  ======================================================
``base``                   what every encoder is
``static``                 the built-in model and any other model2vec model
``sentence_transformers``  models of the sentence-transformers package
``endpoint``               OpenAI-compatible and Cohere-style endpoints
``transport``              JSON over HTTP: retries and what is made of failures
``limits``                 HTTP within limits that hold for a whole request
``keys``                   where keys come from, and how they stay out of messages
``fingerprints``           simhash and minhash
``loading``                from ``--model`` to an encoder; comparing records
=========================  ======================================================
"""

from __future__ import annotations

from binq.encoders.base import Encoder, FloatEncoder, check_role
from binq.encoders.loading import (
    check_same_model,
    is_endpoint,
    load_encoder,
    load_for,
    model_files,
)
from binq.encoders.static import BUILT_IN

__all__ = [
    "BUILT_IN",
    "Encoder",
    "FloatEncoder",
    "check_role",
    "check_same_model",
    "is_endpoint",
    "load_encoder",
    "load_for",
    "model_files",
]
