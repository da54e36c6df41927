import pytest

ALWAYS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/healthz", {}, 200),
        ("GET", "/metrics", {}, 200),
        ("GET", "/v1/models/tiny", {}, 200),
        ("GET", "/v1/models/tiny/explain/filters", {"Accept": "image/png"}, 200),
        ("GET", "/v2/models/absent", {}, 404),
        ("POST", "/v1/models/tiny:classify", {}, 400),
        ("DELETE", "/v1/models", {}, 405),
        ("GET", "/nothing", {}, 404),
    ],
)
def test_every_answer_tells_browsers_what_it_may_not_do(client, method, path, headers, status):
    answer = client.open(path, method=method, headers=headers)
    assert answer.status_code == status
    assert {name: answer.headers[name] for name in ALWAYS} == ALWAYS
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in answer.headers


def test_the_page_may_use_its_own_files_only(client):
    answer = client.get("/", headers={"Accept": "text/html"})
    assert answer.headers["Content-Security-Policy"] == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; script-src 'self'; style-src 'self'; "
        "connect-src 'self'; img-src 'self' blob:; require-trusted-types-for 'script'; trusted-types 'none'; "
        "frame-ancestors 'none'"
    )
    assert "no-cache" in answer.headers["Cache-Control"]
