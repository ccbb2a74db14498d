"""Practical Byzantine fault tolerance for a hash-chained ledger, as a state machine without I/O.

The core orders opaque proposals, one height at a time. It knows no clock, no socket, no disk and no
randomness: time, messages and results of validation come in as events; what to persist, send and apply goes
out as effects. The daemon and the simulator run the same code.
"""
