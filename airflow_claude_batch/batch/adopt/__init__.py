"""Bring a message batch whose answers are paid for into the submission of a task."""
