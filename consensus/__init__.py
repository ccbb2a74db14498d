"""Practical Byzantine fault tolerance for a hash-chained ledger, as a state machine without I/O.

The core orders opaque proposals, one height at a time. It knows no clock, no socket, no disk and no
randomness: time, messages and results of validation come in as events; what to persist, send and apply goes
out as effects. The daemon and the simulator run the same code.

To read it in one sitting, beside docs/protocol.md:

    what is said      replica_set, certificates, messages; events in, effects out
    agreement         agreement: one height; votes: what was received; vote_guard: what was signed
    views             view_changes: what a quorum of them forces; views; patience: the timer; primary_watch:
                      who is slow; view_changer
    the whole         state: the parts together; reception: messages in; replica: what follows from an event
    after a fault     repair, catch_up: what was missed; restoration, startup: from the journal, and whether
                      it is the whole story

Around it, with threads and files: driver, inbox, journal.
"""
