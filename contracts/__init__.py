"""The built-in contracts, each a small module, and the interface through which the ledger runs them.

`contracts.calls` holds what callers say (argument types), the modules beside it what the ledger then does.
A contract sees only its `Context`: no clock, no I/O, no randomness, so every replica finds the same result.
"""
