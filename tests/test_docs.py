"""The documentation names what exists."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
from prometheus_client.metrics import MetricWrapperBase

from serving import metrics
from serving.http import errors as http_errors
from serving.rpc import STATUS as GRPC_STATUS
from serving.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])
COMMAND = re.compile(r"(?:^|`)(?:\$ )?(?:\S+=\S+ )*(?:\S*/)?fovea ([a-z][a-z-]*(?: [a-z][a-z-]*)*)", re.M)


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def _anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _is_command(command: Any, words: list[str]) -> bool:
    """Tell whether words begin with a command; what follows it are its arguments."""
    if not isinstance(command, typer.core.TyperGroup) or not words:
        return True
    return words[0] in command.commands and _is_command(command.commands[words[0]], words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in _anchors(file.read_text()), f"{page.name} links to {target}"


def test_commands_exist():
    from training.cli import app

    group = typer.main.get_command(app)
    named = {(page.name, words) for page in PAGES for words in COMMAND.findall(page.read_text())}
    assert named
    wrong = {(page, words) for page, words in named if not _is_command(group, words.split())}
    assert not wrong


def test_settings_are_listed_with_their_defaults():
    rows = re.findall(
        r"^\| `FOVEA_(\w+)` \| (?:`(\S+)`|required|none) \|", (REPOSITORY / "docs/settings.md").read_text(), re.M
    )
    expected = {}
    for name, field in Settings.model_fields.items():
        default = "" if field.is_required() or field.default is None else field.default
        expected[name.upper()] = ",".join(default) if isinstance(default, list) else str(default)
    assert dict(rows) == expected


def test_metrics_are_listed_with_their_labels():
    names = r"`(\w+)`"
    rows = re.findall(r"^\| (`fovea_\w+`[^|]*)\|([^|]*)\|", (REPOSITORY / "docs/api.md").read_text(), re.M)
    listed = {name: set(re.findall(names, labels)) for first, labels in rows for name in re.findall(names, first)}
    expected = {
        metric._name + ("_total" if metric._type == "counter" else ""): set(metric._labelnames)
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase) and not metric._labelvalues
    }
    assert listed == expected


def test_errors_are_listed_with_their_status():
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (\d+) \| ([A-Z_]+) \|", (REPOSITORY / "docs/api.md").read_text(), re.M)
    expected = {(code, str(int(status)), GRPC_STATUS[code].name) for code, status in http_errors.STATUS.items()}
    assert set(rows) == expected
