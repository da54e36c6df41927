"""Headers that tell browsers what an answer may not do."""

from flask import Response

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'"
# Its own files, answers of its own host, and pictures that it holds in memory; text never becomes markup or script.
_PAGE = (
    f"{_NOTHING}; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_FRAMES = "; frame-ancestors 'none'"

ALWAYS = {
    # What a picture shows concerns nobody but who asked.
    "Cache-Control": "no-store",
    "Content-Security-Policy": _NOTHING + _FRAMES,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer that has none of its own of a name."""
_TRANSPORT = "max-age=31536000"


def add(response: Response, encrypted: bool) -> None:
    """Add the headers that every answer has, where it has none of its own.

    Args:
        response: an answer.
        encrypted: whether the gateway speaks TLS itself, which browsers are then told to insist on.
    """
    for name, value in ALWAYS.items():
        response.headers.setdefault(name, value)
    if encrypted:
        response.headers["Strict-Transport-Security"] = _TRANSPORT


def allow_page(response: Response) -> None:
    """Let an answer be the web page."""
    response.headers["Content-Security-Policy"] = _PAGE + _FRAMES
