"""Logging as one JSON object a line, on standard error."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import orjson
from gunicorn.glogging import Logger


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, message and the fields given as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON, with the stack trace of an exception if it has one."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:
            # Numbers beyond 64 bits and lone surrogates, such as a client may announce or send.
            return json.dumps(line, default=str)


class ServerLog(Logger):
    """gunicorn's log without a line for each request, which `serving.access` writes."""

    access_log_enabled = False


class IdleClientFilter(logging.Filter):
    """Drops what gunicorn says about clients that paused for too long: no fault, and no reason for a stack trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to keep a record."""
        return not (record.exc_info and isinstance(record.exc_info[1], (BlockingIOError, TimeoutError)))


def config(level: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "filters": {"idle_clients": {"()": IdleClientFilter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {
                "level": "WARNING",
                "handlers": [],
                "filters": ["idle_clients"],
                "propagate": True,
            },
        },
    }
