"""Tiny runs, trained and compared on a page."""

import re
import shutil
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from training import recipes
from training.cli import app
from training.data.pictures import read_picture_set
from training.errors import FoveaError
from training.reports.report import write_report
from training.run import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs: two seeds of dense, one of scratch, one unfinished, on pictures of noise."""
    root = tmp_path_factory.mktemp("compare")
    noise = np.random.default_rng(0)
    for place in ("train/cat", "train/dog", "validation/cat", "validation/dog"):
        (root / "set" / place).mkdir(parents=True)
        for number in range(4):
            pixels = noise.integers(0, 255, (16, 20, 3), np.uint8)
            Image.fromarray(pixels).save(root / "set" / place / f"{number}.png")
    pictures = read_picture_set(root / "set")
    for name, recipe, seed in (("dense-0", "dense", 0), ("dense-1", "dense", 1), ("<b>scratch", "scratch", 0)):
        given = recipes.recipe(recipe).options(pictures.root, height=16, width=16, epochs=1, batch_size=4, seed=seed)
        keras.utils.set_random_seed(seed)
        run = Run(root / name, given, pictures)
        model = recipes.recipe(recipe).train(run)
        model.save(root / name / "model.keras")
        write_report(run, model)
    (root / "unfinished").mkdir()
    for file in ("config.json", "history.csv"):
        shutil.copy(root / "<b>scratch" / file, root / "unfinished")
    return root


class References(HTMLParser):
    """What a page would fetch, and its tags."""

    def __init__(self):
        super().__init__()
        self.addresses, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]


def compare(folder, *names, output="page.html"):
    answer = CliRunner().invoke(
        app, ["compare", *(str(folder / name) for name in names), "--output", str(folder / output)]
    )
    if answer.exception:
        raise answer.exception
    return (folder / output).read_text(encoding="utf-8")


def text(page):
    return " ".join(re.sub(r"<style.*?</style>|<svg.*?</svg>|<[^>]+>", " ", page, flags=re.S).split())


def test_runs_stand_side_by_side(folder):
    page = compare(folder, "dense-0", "dense-1", "<b>scratch", "unfinished")
    read = References()
    read.feed(page)
    assert all(address.startswith(("data:", "#")) for address in read.addresses)
    assert "script" not in read.tags
    assert "url(http" not in page
    assert "@import" not in page
    # A folder's name is text, not markup.
    assert "&lt;b&gt;scratch" in page

    words = text(page)
    assert "unfinished is unfinished: 1 epoch has ended." in words
    assert "dense, 2 runs" in words
    assert "are a tie" in words or "is ahead of" in words
    # Four curves and a confusion matrix of each finished run.
    assert page.count("<svg") == 4 + 3
    # Six of the eight pictures, each as it is and as three runs see it.
    assert page.count("data:image/jpeg") == 6 * 4


def test_without_the_pictures_the_page_says_so(folder):
    (folder / "set").rename(folder / "elsewhere")
    try:
        words = text(compare(folder, "dense-0", "<b>scratch"))
    finally:
        (folder / "elsewhere").rename(folder / "set")
    assert f"the pictures are not in {folder / 'set'} any more" in words
    assert "dense-0" in words


def test_an_unfinished_run_alone_shows_what_it_has(folder):
    words = text(compare(folder, "unfinished"))
    assert "There are none: no run is finished." in words


def test_what_is_no_run_is_named(folder):
    with pytest.raises(FoveaError, match=r"nowhere is no run: it is not there"):
        compare(folder, "nowhere")
    with pytest.raises(FoveaError, match=r"set is no run: it has no config.json"):
        compare(folder, "set")
