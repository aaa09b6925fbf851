"""Create message batches, part by part and round by round."""
