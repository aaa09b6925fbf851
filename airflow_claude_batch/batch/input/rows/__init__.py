"""Rows in: reads the rows of a source, and makes one element of ``messages`` of each."""
