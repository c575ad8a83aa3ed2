"""Our own reports: usage as JSON or CSV, and the events themselves."""

from __future__ import annotations

from tallystick.dialects.native.table import headers, page_of, render, tag
from tallystick.dialects.native.usage import parse

__all__ = ["headers", "page_of", "parse", "render", "tag"]
