"""The vault: one institution's original records, encrypted, off the ledger.

It knows bytes, keys and ids; it does not know patients, grants or the ledger's state, and reads no clock.
Everything is synchronous: asynchronous callers use a thread.
"""
