"""Carries HTTP exchanges to the simulated API and back: over real sockets, or in process as an httpx transport."""
