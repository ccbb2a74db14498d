"""One node as a process: its disks opened, its parts joined, its life from start to end.

`node.py` at the top of the house is the front door and says when which life is lived: an ordinary one
(`daemon.node`), or, before there is a ledger to live on, the fetching of one (`daemon.joining`). Everything
that does the work comes from the floors below.
"""
