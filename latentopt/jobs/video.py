"""MP4 videos, if ffmpeg is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_CODECS = ("libx264", "mpeg4")
_REPRODUCIBLE = ["-threads", "1", "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]


def save_mp4(path: Path, frames: Sequence[np.ndarray], per_second: int = 12) -> bool:
    """Write a video whose last frame stays for two seconds.

    The video is H.264, or MPEG-4 if ffmpeg has no encoder for it. A failure is one line on stderr.

    Args:
        path: path of the video.
        frames: pictures (height, width, 3) of bytes, all of one size.
        per_second: frames per second.

    Returns:
        Whether the video was written; False without ffmpeg.
    """
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return False
    even = [np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge") for frame in frames]
    content = b"".join(frame.tobytes() for frame in [*even, *even[-1:] * (2 * per_second - 1)])
    height, width, _ = even[0].shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(per_second), "-i", "-"]
    partial, failure = path.with_name(f".{path.name}.partial"), ""
    for codec in _CODECS:
        words = [ffmpeg, "-y", "-loglevel", "error", *source, "-c:v", codec, "-pix_fmt", "yuv420p", *_REPRODUCIBLE]
        failure = _run([*words, "-f", "mp4", str(partial)], content)
        if not failure and partial.is_file():
            partial.replace(path)
            return True
    partial.unlink(missing_ok=True)
    print(f"latentopt: note: no {path.name}: {failure or 'ffmpeg wrote none'}", file=sys.stderr)
    return False


def _run(words: list[str], content: bytes) -> str:
    """Run ffmpeg on its input; return the reason of a failure in one line, otherwise an empty text."""
    try:
        done = subprocess.run(words, input=content, capture_output=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"ffmpeg: {type(error).__name__}"
    message = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
    return f"ffmpeg: {message.splitlines()[-1]}" if done.returncode else ""
