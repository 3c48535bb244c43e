"""Video files: index and frame-exact reading, on clips made with PyAV."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from evalkit.errors import UserError
from evalkit.types import FrameSelection, VideoGeometry
from evalkit.video import VideoFile, check_videos, video_sampling
from evalkit.video.completeness import check_complete

from .clips import CLIPS, VARIABLE, cut_without_encoding, number_in, painted, write_audio, write_clip


def read(video: VideoFile, indices: list[int]) -> NDArray[np.uint8]:
    """The frames at ``indices``, in the size of the video."""
    info = video.info()
    times = tuple(info.timestamps[index] for index in indices)
    frames = video.frames(FrameSelection(tuple(indices), times, info.size, 2.0))
    assert frames.shape == (len(indices), *info.size[::-1], 3)
    assert frames.dtype == np.uint8
    return frames


def numbers(video: VideoFile, indices: list[int]) -> list[int]:
    """The numbers that are painted into the frames at ``indices``."""
    return [number_in(frame) for frame in read(video, indices)]


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of clips, each written when a test first asks for it."""
    return tmp_path_factory.mktemp("clips")


def clip(folder: Path, name: str) -> VideoFile:
    path = folder / name
    if not path.exists():
        CLIPS[name][1](path)
    return VideoFile(str(path))


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_exact(clips: Path, name: str) -> None:
    video, count = clip(clips, name), CLIPS[name][0]
    info = video.info()
    assert info.frames == count
    assert info.timestamps[0] == 0
    assert list(info.timestamps) == sorted(set(info.timestamps))
    complete = read(video, list(range(count)))
    assert [number_in(frame) for frame in complete] == list(range(count))
    sparse = [0, 1, 2, *range(7, count, 23), count - 1]
    assert np.array_equal(read(video, sparse), complete[sparse])  # sought
    assert np.array_equal(read(video, [count - 1]), complete[-1:])
    assert numbers(video, [9, 4, 4, 20]) == [9, 4, 4, 20]


def test_constant_rate(clips: Path) -> None:
    info = clip(clips, "constant.mp4").info()
    assert (info.fps, info.size, info.duration) == (30.0, (64, 48), 2.0)
    assert list(info.timestamps) == [index / 30 for index in range(60)]


@pytest.mark.parametrize(("name", "fps"), [("variable.mp4", 16.65), ("variable.mkv", 16.678)])
def test_variable_rate_has_the_times_of_the_frames(clips: Path, name: str, fps: float) -> None:
    info = clip(clips, name).info()
    assert np.allclose(info.timestamps, np.array(VARIABLE) / 1000, atol=1e-9)
    assert info.fps == pytest.approx(fps, abs=1e-3)  # as torchcodec 0.17 has it: see golden/video.json


def test_edit_lists_hide_frames(clips: Path, tmp_path: Path) -> None:
    whole = Path(clip(clips, "b-frames.mp4").path)
    video = VideoFile(str(cut_without_encoding(whole, tmp_path / "cut.mp4", 58)))
    info = video.info()
    assert (info.frames, info.fps) == (242, 30.0)
    assert numbers(video, [0, 1, 100, 241]) == [58, 59, 158, 299]
    assert info.timestamps[0] == 0


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    video = VideoFile(str(write_clip(tmp_path / "clip.mp4", 6, size=(80, 48), rotation=degrees)))
    turned = np.rot90(painted(5, (80, 48)), degrees // 90)  # counter-clockwise
    assert video.info().size == turned.shape[1::-1]
    found = read(video, [5])[0]
    assert np.abs(found.astype(int) - turned).mean() < 6


def test_frames_are_resized(clips: Path) -> None:
    video = clip(clips, "b-frames.mp4")
    selection = video_sampling("fps=1,max_frames=8").select(video.info(), VideoGeometry())
    frames = video.frames(selection)
    assert frames.shape == (8, selection.size[1], selection.size[0], 3)
    assert [number_in(frame) for frame in frames] == list(selection.indices)


def test_segments_have_the_times_of_the_file(clips: Path) -> None:
    whole = clip(clips, "constant.mp4")
    video = VideoFile(whole.path, 0.5, 1.5)
    assert list(video.info().timestamps) == [index / 30 for index in range(15, 46)]
    assert video.info().fps == 30
    assert numbers(video, [0, 30]) == [15, 45]
    assert video.name == video.key == f"{whole.path}#t=0.5,1.5"
    assert video.digest() == f"{whole.digest()}#t=0.5,1.5"
    assert VideoFile(whole.path, end=0.1).info().frames == 4
    with pytest.raises(ValueError, match=r"clip.*no frame is in the segment; the last frame is at 1.97 s|constant"):
        VideoFile(whole.path, 3.0).info()
    with pytest.raises(ValueError, match="has 31 frames, not 32"):
        video.frames(FrameSelection((31,), (0.0,), (64, 48), 1.0))


def test_a_single_frame(tmp_path: Path) -> None:
    video = VideoFile(str(write_clip(tmp_path / "one.mp4", 1)))
    info = video.info()
    assert (info.frames, info.fps) == (1, 30.0)
    selection = video_sampling("fps=2").select(info, VideoGeometry())
    assert selection.indices == (0, 0)
    assert len(video.frames(selection)) == 2
    for name in ("qwen-vl-utils-0.0.14", "transformers", "lmms-eval-32", "vlmevalkit-64"):
        with pytest.raises(ValueError, match=f"{name} needs 2 frames at least; this has 1"):
            video_sampling(name).select(info, VideoGeometry())


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 10)
    video = VideoFile(str(path))
    before = video.digest()
    assert video.info().frames == 10
    write_clip(path, 12)
    assert video.info().frames == 12
    assert video.digest() != before


# ---------------------------------------------------------------------------------------------------------- unreadable


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.mp4 is missing"):
        VideoFile(str(tmp_path / "none.mp4")).info()
    with pytest.raises(OSError, match="is not a regular file"):
        VideoFile(str(tmp_path)).info()
    with pytest.raises(OSError, match="is not a regular file"):
        VideoFile(str(tmp_path)).digest()


@pytest.mark.parametrize("name", ["b-frames.mp4", "pyramid.mkv", "vp9.webm", "gif.gif", "mpeg4.avi", "mjpeg.mov"])
@pytest.mark.parametrize("share", [0.3, 0.67, 0.97])
def test_truncated_files_are_an_error(clips: Path, tmp_path: Path, name: str, share: float) -> None:
    content = Path(clip(clips, name).path).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="is truncated: it has|cannot be decoded"):
        VideoFile(str(path)).info()
    with pytest.raises(ValueError, match="is truncated: it has"):
        check_complete(str(path))


def test_files_without_video(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no video stream"):
        VideoFile(str(write_audio(tmp_path / "sound.m4a"))).info()
    contents = {"empty.mp4": b"", "text.mp4": b"no video", "zeros.avi": bytes(5000)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"is empty|cannot be decoded"):
            VideoFile(str(tmp_path / name)).info()


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "v=0\nc=IN IP4 127.0.0.1\nm=video 49170 RTP/AVP 98\n",
    ],
)
def test_playlists_are_not_followed(clips: Path, tmp_path: Path, content: str) -> None:
    """A text in a file called ``.mp4`` could name any file of this machine, or a server."""
    path = tmp_path / "clip.mp4"
    path.write_text(content.format(clip(clips, "h264.ts").path))
    with pytest.raises(ValueError, match="no video in a supported container|Invalid data"):
        VideoFile(str(path)).info()


def test_one_frame_is_in_memory_at_a_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 200, size=(640, 360), options={"preset": "ultrafast"})
    video, frame, shown = VideoFile(str(path)), 640 * 360 * 3, (56, 28)
    selection = FrameSelection(tuple(range(200)), (), shown, 30.0)
    video.frames(FrameSelection((0,), (), shown, 30.0))  # imports
    tracemalloc.start()
    try:
        found = video.frames(selection)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.nbytes < frame * 2
    assert peak < found.nbytes + 8 * frame  # of 200


def test_hidden_frames_of_vp8_are_not_counted(clips: Path, tmp_path: Path) -> None:
    """Encoders store frames that are only references for others, which no player shows."""
    content = bytearray(Path(clip(clips, "vp8.webm").path).read_bytes())
    with av.open(clip(clips, "vp8.webm").path) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][40]
        at = content.index(bytes(packet))
    content[at] &= ~(1 << 4)  # show_frame
    (tmp_path / "hidden.webm").write_bytes(content)
    video = VideoFile(str(tmp_path / "hidden.webm"))
    assert video.info().frames == 89
    assert numbers(video, [39, 40, 88]) == [39, 41, 89]


def test_without_pyav_a_command_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("evalkit.video.container.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"videos need PyAV; install it with: pip install .*\[video\]"):
        check_videos([VideoFile(str(write_clip(tmp_path / "clip.mp4", 2)))], "videomme/test")


def test_a_stream_that_begins_amid_the_file_is_ignored(clips: Path, tmp_path: Path) -> None:
    """PyAV 18 raises ``IndexError`` behind the last packet, or does not, as memory happens to be."""
    intact = Path(clip(clips, "h264.ts").path).read_bytes()
    starts = [at for at in range(0, len(intact), 188) if intact[at + 1 : at + 3] == b"\x41\x00"]  # of a frame
    found = []
    for count, at in enumerate(starts[-40::2]):
        content = bytearray(intact)
        content[at + 1 : at + 3] = b"\x41\xf0"  # the frame is one of stream 496 then, not of 256
        path = tmp_path / f"{count}.ts"
        path.write_bytes(content)
        found.append(VideoFile(str(path)).info().frames)
    assert found == [74] * 20
