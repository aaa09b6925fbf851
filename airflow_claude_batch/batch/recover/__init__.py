"""Find out what happened to a create call whose response was lost."""
