"""What writes an index: vectors stream in, one file appears."""
