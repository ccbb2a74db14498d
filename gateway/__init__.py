"""The HTTP interface of one institution's node."""
