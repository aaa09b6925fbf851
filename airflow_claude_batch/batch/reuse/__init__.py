"""Answers of earlier submissions: an unchanged request is not paid for again."""
