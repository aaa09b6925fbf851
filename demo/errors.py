"""The error that ends the demo, for the person who started it."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot continue. The message says why and what to do."""
