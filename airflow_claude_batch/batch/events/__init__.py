"""Find the message batches of a workspace that have ended, so that each can fire an event once."""
