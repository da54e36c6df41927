"""Pages in one file: templates, drawings and pictures that lie within them."""

import io
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

COLOURS = (
    "#3f7fbf",
    "#d9722e",
    "#3d9a50",
    "#b8489b",
    "#8a6fd1",
    "#a38316",
    "#2b9c9c",
    "#c94f4f",
    "#7d8794",
    "#96683f",
)
"""Told from white as well as from black, and most of them from each other by those who see fewer colours."""

_INK = "#010203"
"""Stands for the colour of the page's text in a drawing."""


def render(template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """Fill a template of this package; `made` is the time, and `share` and `address` are filters too."""
    environment = Environment(
        loader=PackageLoader("training.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"share": share, "address": address} | dict(filters)
    return environment.get_template(template).render(made=datetime.now(UTC), **values)


def ink() -> Any:
    """Draw texts and lines in the colour that stands for the page's."""
    parts = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    return matplotlib.rc_context(dict.fromkeys(parts, _INK) | {"svg.fonttype": "none", "svg.hashsalt": "fovea"})


def svg(figure: Figure, title: str) -> Markup:
    """Return a drawing as an element of the page that takes the page's text colour."""
    data = io.StringIO()
    figure.savefig(data, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawing = data.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(_INK, "currentColor")
    return Markup(drawing.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(title), 1))


def share(value: float | None, digits: int = 1) -> str:
    """Write a share in per cent."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def address(picture: Image.Image) -> str:
    """Return a picture as an address that holds it."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{b64encode(data.getvalue()).decode()}"
