import pytest
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from serving.errors import NotAcceptableError
from serving.http.negotiation import JSON, NPZ, PNG, choose

OFFERS = [JSON, PNG, NPZ]


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("image/png", PNG),
        ("image/*", PNG),
        ("application/x-npz", NPZ),
        ("application/*", JSON),
        ("application/json;q=0.2, image/png;q=0.9", PNG),
        ("application/json;q=0, */*", PNG),
        ("image/png;q=0.1, */*;q=0.5", JSON),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("IMAGE/PNG", PNG),
    ],
)
def test_the_media_type_the_client_likes_best_is_chosen(header, chosen):
    assert choose(parse_accept_header(header, MIMEAccept), OFFERS) == chosen


@pytest.mark.parametrize("header", ["text/html", "image/webp", "*/*;q=0", "application/json;q=0"])
def test_a_client_that_takes_none_is_told_what_there_is(header):
    with pytest.raises(NotAcceptableError, match="application/json, image/png, application/x-npz"):
        choose(parse_accept_header(header, MIMEAccept), OFFERS)
