"""Read, check and store the requests of a submission."""
