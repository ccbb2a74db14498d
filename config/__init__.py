"""Settings, genesis files and local networks: what a node is told before it starts.

Each room owns the dataclass of its own settings; this room reads them from files, checks them and says in
the operator's words what is wrong.
"""
