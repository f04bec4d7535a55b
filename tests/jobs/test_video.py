"""Videos through ffmpeg: the real one where it is, else a program in its place that keeps what it was given."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latentopt.jobs.video import save_mp4

REAL = shutil.which("ffmpeg")
FRAMES = [np.full((5, 7, 3), 40 * at, np.uint8) for at in range(3)]
FAKE = """#!{python}
import json, sys
content, words = sys.stdin.buffer.read(), sys.argv[1:]
codec = words[words.index("-c:v") + 1]
if codec in {broken}:
    sys.exit(f"first line\\nUnknown encoder '{{codec}}'")
with open(words[-1], "w") as file:
    json.dump([words, len(content), content[:6].hex(), content[-6:].hex()], file)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    def made(*broken: str) -> Path:
        script = tmp_path / "bin" / "ffmpeg"
        script.parent.mkdir()
        script.write_text(FAKE.format(python=sys.executable, broken=broken))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(script.parent))
        return tmp_path / "a.mp4"

    return made


@pytest.mark.parametrize(("broken", "codec"), [((), "libx264"), (("libx264",), "mpeg4")])
def test_ffmpeg_gets_every_frame_at_an_even_size_and_the_last_for_two_seconds(fake, capsys, broken, codec):
    path = fake(*broken)
    assert save_mp4(path, FRAMES, per_second=10)
    words, length, first, last = json.loads(path.read_text())
    assert length == (3 + 19) * 6 * 8 * 3
    assert (first, last) == ("00" * 6, "50" * 6)
    assert words[words.index("-s") + 1] == "8x6"
    assert words[words.index("-c:v") + 1] == codec
    assert words[words.index("-c:v") + 3] == "yuv420p"
    assert capsys.readouterr().err == ""
    assert {file.name for file in path.parent.iterdir()} == {"a.mp4", "bin"}


def test_what_ffmpeg_cannot_do_is_one_line_and_no_error(fake, capsys):
    path = fake("libx264", "mpeg4")
    assert not save_mp4(path, FRAMES)
    assert capsys.readouterr().err == "latentopt: note: no a.mp4: ffmpeg: Unknown encoder 'mpeg4'\n"
    assert [file.name for file in path.parent.iterdir()] == ["bin"]


def test_without_ffmpeg_there_is_no_video_and_no_word(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not save_mp4(tmp_path / "a.mp4", FRAMES)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(REAL is None, reason="ffmpeg is not there")
def test_the_real_one_writes_a_video_that_it_reads_back(tmp_path):
    assert save_mp4(tmp_path / "a.mp4", FRAMES, per_second=10)
    words = [str(REAL), "-loglevel", "error", "-i", str(tmp_path / "a.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    content = subprocess.run(words, capture_output=True, check=True).stdout
    read = np.frombuffer(content, np.uint8).reshape(-1, 6, 8, 3)
    assert len(read) == 3 + 19
    assert np.abs(read[[0, 1, 2, -1]].mean((1, 2, 3)) - [0, 40, 80, 80]).max() < 6
