"""The daemon's log: one JSON object a line, ids and digests only, never patients' data."""

from __future__ import annotations

import sys

import structlog


def configure_logging(level: str) -> None:
    """Write lines of `level` and more urgent ones to stderr."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
