"""Exact usage metering, quotas and usage reports for AI and media APIs."""

__version__ = "0.1.0"
