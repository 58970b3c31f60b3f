"""How much recall was lost: searches judged against the exact neighbours, or judgements."""
