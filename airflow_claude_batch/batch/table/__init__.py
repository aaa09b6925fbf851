"""Write landed rows to a table of a SQL database, by a connection of any DBAPI driver."""
