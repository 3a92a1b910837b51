"""Every run in a database: SQLite by default, PostgreSQL by URL. Filled from run folders only."""
