"""The embedded ledger: SQLite as a transactional log. Entry point: `ledger.open_sqlite`."""
