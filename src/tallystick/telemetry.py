"""What the process says about itself: JSON lines on stderr, never with a body, a key or a query in them."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import msgspec
import structlog

LOG: structlog.stdlib.BoundLogger = structlog.get_logger()


class Forward(logging.Handler):
    """Takes what libraries log and writes it as our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the library's message, and of an exception only what it was and where."""
        error = record.exc_info[1] if record.exc_info else None
        about = {} if error is None else described(error)
        LOG.log(record.levelno, record.getMessage(), logger=record.name, **about)


def configure(level: str) -> None:
    """Send our lines and those of libraries, from `level` up, to stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Below a warning, libraries talk to their own developers.
    logging.basicConfig(level=logging.WARNING, handlers=[Forward()], force=True)


def described(error: BaseException) -> dict[str, Any]:
    """Say what was raised and where; not its message, which may quote what a customer sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__qualname__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _json(line: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=str).decode()
