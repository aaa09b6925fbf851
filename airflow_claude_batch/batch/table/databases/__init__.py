"""What differs from database to database: statements, types, constraints and errors."""
