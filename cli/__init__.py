"""The `chartchain` command: one module for each group of commands."""
