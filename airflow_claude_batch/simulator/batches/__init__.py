"""Message batches: what a create call may contain, the states of a batch, and its results."""
