"""Our own reports: usage as JSON or CSV, and the events themselves."""

from __future__ import annotations

from tallystick.dialects.native.table import UsageDocument, headers, page_of, render, tag
from tallystick.dialects.native.usage import AGGREGATIONS, parse

__all__ = ["AGGREGATIONS", "UsageDocument", "headers", "page_of", "parse", "render", "tag"]
