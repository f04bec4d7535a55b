"""The page that a reconstruction job leaves."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from files import blobs, call, lasting, table, write_png
from PIL import Image
from safetensors.torch import load_file

import latentopt as lo
from latentopt.inverse.initializers import Regression
from latentopt.jobs.experiment import PLACE_SETTINGS
from latentopt.jobs.report import ReportFigure, report_template

COUNT = 11
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page's sections by heading: texts and pictures; and every tag and attribute of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"": []}
        self.pictures: dict[str, list[bytes]] = {"": []}
        self.heading = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            kind, content = (dict(attrs)["src"] or "").split(",", 1)
            assert kind == "data:image/png;base64"
            self.pictures[self.heading].append(base64.b64decode(content))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["h2"]:
            self.heading = data
            self.texts[data], self.pictures[data] = [], []
        elif data.strip():
            self.texts[self.heading].append(data.strip())


def words(folder: Path) -> list[object]:
    words = ["reconstruct", "--model", "mnist-vae", "--targets", folder / "images", "--out", folder / "out"]
    return [*words, "--steps", 6, "--restarts", 2, "--batch-size", 4, "--wandb", "disabled", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for at, image in enumerate(blobs(COUNT, seed=0)):
        write_png(folder / "images" / f"<b>{at:02d}&.png", image)
    (folder / "images" / "<i>bad.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def page(folder, capsys) -> Page:
    if not (folder / "out" / "report.html").exists():
        assert call(capsys, *words(folder)).code == 3
    return Page((folder / "out" / "report.html").read_text(encoding="utf-8"))


def test_it_is_one_file_that_asks_for_nothing(page):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "b", "i", "a"}
    assert all(not (value or "").startswith("http") for _, attributes in page.tags for value in attributes.values())
    assert {"main", "section", "figure", "figcaption", "table", "details", "summary", "title", "h1"} <= tags
    assert ("html", {"lang": "en"}) in page.tags
    assert any(attributes.get("name") == "viewport" for _, attributes in page.tags)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_every_promised_part_is_there(page):
    assert list(page.texts)[1:] == [
        "Summary", "Recipe", "First images", "Worst", "Best", "Errors", "Convergence", "Skipped"
    ]  # fmt: skip
    assert {key: len(pictures) for key, pictures in page.pictures.items() if pictures} == {
        "First images": 1, "Worst": 8, "Best": 8, "Errors": 1, "Convergence": 1
    }  # fmt: skip
    for pictures in page.pictures.values():
        for content in pictures:
            with Image.open(io.BytesIO(content)) as image:
                image.verify()


def test_the_summary_is_that_of_the_table(page, folder):
    rows, cells = table(folder / "out"), page.texts["Summary"]
    for key, title in (("mse", "mean squared error"), ("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("loss", "loss")):
        values = np.array([float(row[key]) for row in rows])
        at = cells.index(title)
        error = values.std(ddof=1) / COUNT**0.5
        assert cells[at + 1 : at + 3] == [f"{values.mean():.4g}", f"{error:.4g}"]
    assert cells[cells.index("images") + 1] == str(COUNT)
    assert cells[cells.index("skipped") + 1] == "1"
    learning = Regression().pool / (COUNT + 1)  # which all targets share, the one that is skipped too
    assert float(cells[cells.index("forwards an image") + 1]) == pytest.approx(2 * 7 + 1 + learning, abs=0.1)


def test_the_recipe_is_that_of_the_job_without_where_it_ran(page, folder):
    recipe = yaml.safe_load((folder / "out" / "recipe.yaml").read_text())
    told = yaml.safe_load(page.texts["Recipe"][1])
    assert told == {key: recipe[key] for key in told}
    assert set(recipe) - set(told) == set(PLACE_SETTINGS)


def test_worst_and_best_are_those_of_the_table_with_their_names_and_pictures(page, folder):
    rows = table(folder / "out")
    ranked = sorted(range(COUNT), key=lambda at: float(rows[at]["mse"]))
    latents = load_file(folder / "out" / "latents.safetensors")["latents"]
    for heading, order in (("Best", ranked[:8]), ("Worst", ranked[::-1][:8])):
        names = [text for text in page.texts[heading] if text.endswith("&.png")]
        assert names == [rows[at]["name"] for at in order]
        figures = [text for text in page.texts[heading] if text.startswith("mse ")]
        assert [text.split()[1].rstrip(",") for text in figures] == [f"{float(rows[at]['mse']):.4g}" for at in order]
        with Image.open(io.BytesIO(page.pictures[heading][0])) as image:
            shown = np.asarray(image)[2:114:4, 242:354:4, 0].astype(int)  # the third column
        with torch.no_grad():
            ours = lo.load("mnist-vae")(latents[order[:1]])[0, 0]
        assert np.abs(shown - (255 * ours.clamp(0, 1).numpy()).round()).max() <= 1


def test_names_are_texts_and_what_was_skipped_is_named(page):
    assert "<i>bad.png" in page.texts["Skipped"]
    assert any("no known image format" in text for text in page.texts["Skipped"])


def test_a_job_run_again_leaves_the_same_page(page, folder, capsys):
    before = lasting(folder / "out" / "report.html")
    assert b'<tr class="varies"><th scope="row">seconds an image' in (folder / "out" / "report.html").read_bytes()
    assert call(capsys, *words(folder), "--batch-size", "2").code == 3
    assert lasting(folder / "out" / "report.html") == before


@pytest.mark.parametrize("text", ['<script>alert("1")</script>', "a & b", "'\"><img src=x>"])
def test_texts_stay_texts(text):
    figure = ReportFigure(b"1", text, [text])
    parts = {"worst": [figure], "best": [], "grid": b"", "histogram": b"2", "convergence": b"3"}
    texts = dict.fromkeys(("title", "compared", "recipe", "varying"), text)
    rows = {"summary": [(text, text, text)], "skipped": [(text, text)], "calibration": []}
    page = Page(report_template().render(**texts, **parts, **rows))
    assert next(attributes["alt"] for tag, attributes in page.tags if tag == "img") == text
    assert not any(tag == "script" for tag, _ in page.tags)
    assert page.texts[""].count(text) == 2
    assert page.texts["Summary"][2:5] == [text] * 3
    assert f"compare the {text};" in page.texts["Summary"][5]
    assert page.texts["Recipe"][1:] == page.texts["Worst"] == [text]
    assert page.texts["Skipped"][2:] == [text] * 2
    assert "First images" not in page.texts
