"""Errors that a user can mend."""


def reason(error: Exception) -> str:
    """Return why an error of the operating system or of TensorFlow happened, without its number and stack."""
    return getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)


class FoveaError(Exception):
    """Something the user can mend; the message says what was wrong and what would be right."""


class WorkerLostError(FoveaError):
    """Another worker of the run is gone."""
