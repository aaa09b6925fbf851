"""Turn result streams into one row per request, in input order."""
