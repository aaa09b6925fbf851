"""One request of a batch: the rules for its params, how it ends, and the answer it gets."""
