"""One module a subcommand: its arguments, and what it runs."""
