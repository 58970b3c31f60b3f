"""One search: candidates are found among the codes, and rescored."""
