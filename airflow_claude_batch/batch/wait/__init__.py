"""Wait for message batches: when to poll, what a poll says, and who is told."""
