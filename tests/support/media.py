"""What ffprobe says of a file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None,
    reason="ffmpeg is not installed (apt-get install ffmpeg)",
)


class Probe(NamedTuple):
    """A media file, decoded to its end.

    :param streams: The codec of each stream, video first.
    :param width: Of the picture.
    :param height: Of the picture.
    :param frames: Pictures that were decoded.
    :param seconds: Its length.
    """

    streams: list[str]
    width: int
    height: int
    frames: int
    seconds: float


def probe(path: Path) -> Probe:
    """Decode a file; a damaged one is an error."""
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    streams = sorted(told["streams"], key=lambda stream: stream["codec_type"] != "video")
    video = streams[0]
    return Probe(
        [stream["codec_name"] for stream in streams],
        video["width"],
        video["height"],
        int(video["nb_read_frames"]),
        float(told["format"]["duration"]),
    )
