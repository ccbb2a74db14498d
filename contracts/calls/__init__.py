"""What can be said to the built-in contracts: one module of argument types for each."""
