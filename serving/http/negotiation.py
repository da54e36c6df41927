"""Which of its forms an answer takes (RFC 9110, 12.5.1)."""

from collections.abc import Sequence

from werkzeug.datastructures import MIMEAccept

from serving.errors import NotAcceptableError

JSON = "application/json"
PNG = "image/png"
NPZ = "application/x-npz"
HTML = "text/html"


def choose(accept: MIMEAccept, offers: Sequence[str]) -> str:
    """Return the media type that the client likes best; among equals, the first that is offered.

    Args:
        accept: the request's `Accept`; empty: anything goes.
        offers: media types the answer can have, the default first.

    Raises:
        NotAcceptableError: the client takes none of them.
    """
    if not accept:
        return offers[0]
    best = max(offers, key=accept.quality)
    if accept.quality(best) <= 0:
        raise NotAcceptableError(f"the answer can be {', '.join(offers)}; Accept allows none of these")
    return best
