"""Meters and rates as documents, from JSON or TOML alike: read with every flaw named, and written back."""
