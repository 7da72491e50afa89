from __future__ import annotations

import http.client
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

import seedance_provider.testing

if TYPE_CHECKING:
    from .conftest import Api, Clock  # type: ignore[import-not-found]

MEDIA = Path(seedance_provider.testing.__file__).parent / "media"
AGENT = {"User-Agent": "Mozilla/5.0"}


def output_of(api: Api, **inputs: Any) -> dict[str, Any]:
    output: dict[str, Any] = api.finished(api.create_id(**inputs))["output"][0]
    return output


def announce(api: Api, name: str = "cat.png", **more: str) -> dict[str, Any]:
    reply = api.call("POST", "/api/v1/uploads", body={"fileName": name, **more})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def put(upload: dict[str, Any], data: bytes = b"bytes", **headers: str) -> requests.Response:
    sent = {"Content-Type": upload["contentType"], **headers}
    return requests.put(upload["uploadUrl"], data=data, headers=sent, timeout=5)


def test_the_video_is_a_small_mp4_served_whole_and_by_range(api: Api) -> None:
    url = output_of(api)["url"]
    whole = requests.get(url, headers=AGENT, timeout=5)
    assert whole.headers["Content-Type"] == "video/mp4"
    assert whole.content == (MEDIA / "video.mp4").read_bytes()
    assert whole.content[4:8] == b"ftyp"
    assert len(whole.content) < 30_000
    part = requests.get(url, headers=AGENT | {"Range": "bytes=100-199"}, timeout=5)
    assert (part.status_code, part.content) == (206, whole.content[100:200])


def test_the_last_frame_is_the_videos_last_frame(api: Api, tmp_path: Path) -> None:
    frame = requests.get(output_of(api)["lastFrameImage"], headers=AGENT, timeout=5)
    assert frame.headers["Content-Type"] == "image/png"
    assert frame.content == (MEDIA / "last_frame.png").read_bytes()
    try:
        command = [
            "ffmpeg",
            "-loglevel",
            "error",
            "-i",
            str(MEDIA / "video.mp4"),
            "-update",
            "1",
            "-fflags",
            "+bitexact",
        ]
        subprocess.run([*command, str(tmp_path / "last.png")], check=True)
    except FileNotFoundError:
        pytest.skip("needs ffmpeg")
    assert (tmp_path / "last.png").read_bytes() == frame.content


def test_media_exists_only_once_the_task_succeeded(api: Api) -> None:
    running, failed = api.create_id("[[generating:60]]"), api.create_id("[[fail]]")
    for name in (f"{running}.mp4", f"{failed}.mp4", "task_absent.mp4", f"{api.create_id()}.exe"):
        assert api.call("GET", f"/videos/{name}").status_code == 404


def test_media_downloads_need_a_user_agent_too(api: Api) -> None:
    assert requests.get(output_of(api)["url"], timeout=5).status_code == 403


def test_links_expire_and_each_record_has_new_ones(api: Api, clock: Clock) -> None:
    api.emulator.settings.link_seconds = 60.0
    task_id = api.create_id()
    first = api.finished(task_id)["output"][0]
    assert requests.get(first["url"], headers=AGENT, timeout=5).status_code == 200
    clock.forward(61)
    for url in (first["url"], first["lastFrameImage"], first["url"].partition("?")[0], f"{first['url']}x"):
        assert requests.get(url, headers=AGENT, timeout=5).status_code == 403
    second = api.poll(task_id).json()["output"][0]
    for url in (second["url"], second["lastFrameImage"]):
        assert requests.get(url, headers=AGENT, timeout=5).status_code == 200


def test_other_media_come_under_the_genuine_content_type(api: Api) -> None:
    output = output_of(api)
    api.emulator.add_fault("other_media", times=2)
    picture, video = (requests.get(output[name], headers=AGENT, timeout=5) for name in ("url", "lastFrameImage"))
    assert (picture.headers["Content-Type"], picture.content[:4]) == ("video/mp4", b"\x89PNG")
    assert (video.headers["Content-Type"], video.content[4:8]) == ("image/png", b"ftyp")
    api.emulator.add_fault("other_media")
    assert api.call("GET", "/videos/task_absent.mp4").status_code == 404


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_can_be_lengthened(api: Api, chunked: bool) -> None:
    url = output_of(api)["url"]
    api.emulator.add_fault("padded", on="media", bytes=1_000_000, chunked=chunked)
    answer = requests.get(url, headers=AGENT, timeout=5)
    assert len(answer.content) == 1_000_000
    assert answer.content.startswith((MEDIA / "video.mp4").read_bytes())
    assert ("Content-Length" in answer.headers) is not chunked


def test_mov_images_and_several_outputs(api: Api) -> None:
    movie = output_of(api, model="seedance2-5", output_format="mov")
    assert movie["mediaType"] == "video/quicktime"
    reply = requests.get(movie["url"], headers=AGENT, timeout=5)
    assert (reply.headers["Content-Type"], movie["url"][-4:]) == ("video/quicktime", ".mov")
    pictures = api.finished(api.create_id(model="midjourney-v8"))["output"]
    assert len(pictures) == 4
    for picture in pictures:
        assert requests.get(picture["url"], headers=AGENT, timeout=5).content.startswith(b"\x89PNG")
    photograph = output_of(api, model="nanobanana2")
    reply = requests.get(photograph["url"], headers=AGENT, timeout=5)
    assert (reply.headers["Content-Type"], photograph["mediaType"], photograph["url"][-4:]) == (
        "image/jpeg",
        "image/jpeg",
        ".jpg",
    )
    assert reply.content.startswith(b"\xff\xd8\xff")
    assert len(api.finished(api.create_id(model="suno-music"))["output"]) == 2
    assert "seed" not in output_of(api, model="wan3.0-text-to-video")


def test_an_upload_goes_by_signed_put_and_comes_back_from_its_url(api: Api) -> None:
    upload = announce(api, "my cat.png")
    assert list(upload)[:3] == ["uploadUrl", "url", "contentType"]
    assert (upload["contentType"], upload["method"], upload["expiresIn"]) == ("image/png", "PUT", 900)
    assert api.call("GET", upload["confirmUrl"]).status_code == 404
    assert put(upload).status_code == 200
    confirmed = api.call("GET", upload["confirmUrl"]).json()
    assert (confirmed["size"], confirmed["url"], confirmed["contentType"]) == (5, upload["url"], "image/png")
    assert confirmed["expiresAt"] - confirmed["uploadedAt"] == 86_400_000
    fetched = requests.get(upload["url"], headers=AGENT, timeout=5)
    assert (fetched.content, fetched.headers["Content-Type"]) == (b"bytes", "image/png")


def test_the_signed_put_refuses_the_api_key(api: Api) -> None:
    reply = put(announce(api), Authorization=f"Bearer {api.emulator.api_key}")
    assert reply.status_code == 400
    assert "<Code>InvalidArgument</Code>" in reply.text


def test_the_signed_put_wants_the_announced_type_the_signature_and_a_length(api: Api) -> None:
    upload = announce(api, "notes.bin", contentType="image/webp")
    assert put(upload, **{"Content-Type": "image/png"}).status_code == 403
    forged = upload | {"uploadUrl": upload["uploadUrl"][:-4] + "0000"}
    assert put(forged).status_code == 403
    lost = upload | {"uploadUrl": upload["uploadUrl"].replace("temp-uploads", "elsewhere")}
    assert put(lost).status_code == 403
    assert put(upload, data=iter([b"chunk"])).status_code == 411  # type: ignore[arg-type]


def test_a_signed_url_expires(api: Api, clock: Clock) -> None:
    upload = announce(api)
    clock.forward(901)
    assert "expired" in put(upload).text


def test_uploaded_files_vanish_after_a_day(api: Api, clock: Clock) -> None:
    upload = announce(api)
    put(upload)
    clock.forward(86_401)
    assert requests.get(upload["url"], headers=AGENT, timeout=5).status_code == 404


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.WEBP", "image/webp"),
        ("a.m4a", "audio/mp4"),
        ("a.ogg", "audio/ogg"),
        ("a.flac", "audio/flac"),
        ("a.mp4", "video/mp4"),
        ("a", "application/octet-stream"),
    ],
)
def test_media_types_need_no_list_of_the_systems(api: Api, name: str, kind: str) -> None:
    assert announce(api, name)["contentType"] == kind


def test_midjourney_does_without_a_reference_that_cannot_be_fetched(api: Api) -> None:
    unsent = announce(api)["url"]
    assert api.finished(api.create_id(model="midjourney-v8", uploadedUrls=[unsent]))["status"] == "success"
    failed = api.finished(api.create_id(model="gpt-image-2", uploadedUrls=[unsent]))
    assert failed["error"]["code"] == "asset_review_failed"


@pytest.mark.parametrize("body", [b"{", {}, {"fileName": 5}, {"fileName": " "}, {"fileName": "a", "contentType": 5}])
def test_a_wrong_upload_request_is_400(api: Api, body: Any) -> None:
    reply = api.call("POST", "/api/v1/uploads", body=body)
    assert (reply.status_code, reply.json()) == (400, {"message": "Invalid request parameters"})


def test_a_reference_that_was_announced_but_never_uploaded_fails_its_task(api: Api) -> None:
    sent, unsent = announce(api), announce(api)
    put(sent)
    good = api.finished(api.create_id(imageUrls=[sent["url"]]))
    bad = api.finished(api.create_id(imageUrls=[sent["url"], unsent["url"]]))
    assert good["status"] == "success"
    assert bad["error"] == {
        "code": "asset_review_failed",
        "message": "Reference image 2 failed review. Please replace it.",
    }


def test_media_urls_carry_the_host_the_creator_used(api: Api) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.emulator.port, timeout=5)
    connection.request(
        "GET",
        "/api/v1/jobs/recordInfo?taskId=demo_task_t2v_success",
        headers=AGENT | {"Authorization": f"Bearer {api.emulator.api_key}", "Host": "seedance.test:99"},
    )
    assert b'"url":"http://seedance.test:99/videos/' in connection.getresponse().read()
    connection.close()
