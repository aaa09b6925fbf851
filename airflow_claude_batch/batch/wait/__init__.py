"""Wait for message batches: when to poll, what a poll means, and who is notified."""
