"""Errors that a user can mend."""


class FoveaError(Exception):
    """Something the user can mend; the message says what was wrong and what would be right."""
