"""The durable record of a submission: parts, intents, batch ids, rounds."""
