"""Ask requests directly, one by one through the Messages API, at full price."""
