"""Which checkpoint, size and precision is best for one scene on one board: each candidate is exported and judged."""
