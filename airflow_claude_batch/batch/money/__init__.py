"""Prices, estimates and model lifecycles."""
