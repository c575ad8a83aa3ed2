"""The distributed ledger: stateless processes over one PostgreSQL, or over PostgreSQL sharded by Citus."""
