"""What the API refuses, as rules that need no call: ``rules`` is their table, the other modules apply it."""
