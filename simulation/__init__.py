"""The consensus core under virtual time: faulty network, faulty disks, faulty replicas, and checkers.

One seed fixes everything that happens, so any failure can be replayed. The replicas are the daemon's own
(`consensus.replica.Replica`); clock, network, disk, ledger and clients around them are models, and the
checkers stand outside and trust nothing that a replica says of itself. Nothing here touches a socket, a clock
or the operating system's randomness.
"""
