"""What the ledgers in SQLite and in PostgreSQL keep and how it is packed: pure, and the same bytes in both."""
