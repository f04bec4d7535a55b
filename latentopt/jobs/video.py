"""The trajectory as a video, where ffmpeg is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_CODECS = ("libx264", "mpeg4")
_REPEATABLE = ["-threads", "1", "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]


def save_mp4(path: Path, frames: Sequence[np.ndarray], per_second: int = 12) -> bool:
    """Write pictures (height, width, 3) bytes of one size as a video; the last one stays for two seconds.

    The video is H.264, or MPEG-4 where ffmpeg has no encoder for it. Whatever goes wrong is one line on stderr.

    Returns:
        Whether there is a video; False without ffmpeg.
    """
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return False
    even = [np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge") for frame in frames]
    content = b"".join(frame.tobytes() for frame in [*even, *even[-1:] * (2 * per_second - 1)])
    height, width, _ = even[0].shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(per_second), "-i", "-"]
    partial, said = path.with_name(f".{path.name}.partial"), ""
    for codec in _CODECS:
        words = [ffmpeg, "-y", "-loglevel", "error", *source, "-c:v", codec, "-pix_fmt", "yuv420p", *_REPEATABLE]
        said = _failure([*words, "-f", "mp4", str(partial)], content)
        if not said and partial.is_file():
            partial.replace(path)
            return True
    partial.unlink(missing_ok=True)
    print(f"latentopt: note: no {path.name}: {said or 'ffmpeg wrote none'}", file=sys.stderr)
    return False


def _failure(words: list[str], content: bytes) -> str:
    """Run a program on what it reads; why it failed, in one line, or nothing."""
    try:
        done = subprocess.run(words, input=content, capture_output=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"ffmpeg: {type(error).__name__}"
    said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
    return f"ffmpeg: {said.splitlines()[-1]}" if done.returncode else ""
