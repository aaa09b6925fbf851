"""The API's endpoints: routes, headers, credentials, rate limits and operations."""
