"""Transactions, blocks, state and their proofs; execution, storage and block sync.

The ledger verifies certificates (`consensus.certificates`) but knows nothing of how they come about.
"""
