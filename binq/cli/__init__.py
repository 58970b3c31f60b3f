"""The command line: one file per subcommand, each a thin caller of the library."""
