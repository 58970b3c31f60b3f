"""An open index: searched, asked a stream of queries, described."""
