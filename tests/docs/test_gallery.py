from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from documents import DOCS
from PIL import Image


@pytest.fixture(scope="module")
def gallery():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        yield import_module("gallery")


def test_the_page_is_what_the_captions_say(gallery):
    assert (DOCS / "gallery.md").read_text(encoding="utf-8") == gallery.page()


def test_every_picture_is_there_and_small_enough(gallery):
    sizes = {picture.file: (DOCS / "gallery" / picture.file).stat().st_size for picture in gallery.PICTURES.values()}
    assert {path.name for path in (DOCS / "gallery").iterdir()} == sizes.keys()
    assert all(0 < size < gallery.MOST for size in sizes.values())
    assert sum(sizes.values()) < gallery.ALL


def test_a_picture_is_drawn_again_as_it_was(gallery, tmp_path):
    path = tmp_path / "walk.gif"
    gallery.PICTURES["walk"].draw(path)
    with Image.open(path) as drawn, Image.open(DOCS / "gallery" / "walk.gif") as kept:
        assert (drawn.n_frames, drawn.size) == (kept.n_frames, kept.size)  # pyright: ignore[reportAttributeAccessIssue]
        for at in (0, kept.n_frames - 1):  # pyright: ignore[reportAttributeAccessIssue]
            drawn.seek(at)
            kept.seek(at)
            change = np.asarray(drawn.convert("L"), float) - np.asarray(kept.convert("L"), float)
            assert np.abs(change).mean() < 2


def test_a_name_that_is_none_is_refused(gallery, capsys):
    assert gallery.main(["monalisa"]) == 2
    message = capsys.readouterr().err
    assert "monalisa" in message
    assert "walk" in message
