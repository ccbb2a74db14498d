"""Real daemons on this machine, load on them, and honest figures about what they did."""
