"""The examples that end in files, run as they are: real DAG runs, real HTTP, real ffmpeg, a real S3 server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedance_provider.testing import Emulator
    from tests.support.examples import Run


def test_draw_and_animate_opens_the_video_with_the_drawn_picture(
    run: Callable[..., Run], seedance_emulator: Emulator
) -> None:
    finished = run("seedance_draw_and_animate")

    assert finished.state == "success"
    (picture,) = finished.xcom("draw")
    (video,) = finished.xcom("animate")
    assert (picture.rpartition(".")[2], video.rpartition(".")[2]) == ("png", "mp4")
    drawn, animated = (task.order for task in seedance_emulator.server.ledger.tasks.values())
    assert (drawn.model, animated.model) == ("seedream-5.0-pro", "seedance-20")
    assert animated.references.images == [picture]
    assert seedance_emulator.bill()["credits_spent"] == 224
