"""Which frame an image is: numbers of frames, times and names of cameras."""

import json
from pathlib import Path

import numpy as np
import pytest

from skelcl.data.poses.formats import load
from skelcl.data.poses.frames import of_images, positions
from skelcl.data.recording import ReadError

HERE = Path("clip.json")


@pytest.mark.parametrize(
    ("numbers", "frames", "note"),
    [
        ([7], [0], ""),
        ([3, 3, 4, 6], [0, 0, 1, 3], ""),
        ([10, 11, 12, 30, 31], [0, 1, 2, 20, 21], ""),
        ([5, 0, 10, 20], [1, 0, 2, 4], "steps of 5"),
        ([738, 790, 820, 990], [0, 1, 2, 3], "numbered 738 to 990 in uneven steps"),
        ([0.0, 0.033, 0.067, 0.1], [0, 1, 2, 3], "uneven"),
    ],
)
def test_numbers(numbers, frames, note):
    found, told = positions(numbers, HERE)
    assert found == frames
    assert note in told
    assert bool(note) == bool(told)


NAMES = {
    "alone": (["frame_0007.jpg", "frame_0009.jpg", "frame_0008.jpg"], [0, 2, 1], ""),
    "camera after the frame": ([f"{t:06d}_cam2.jpg" for t in (4, 5, 7)], [0, 1, 3], ""),
    "number of people beside the frame": (["3_p2.png", "4_p1.png", "6_p2.png"], [0, 1, 3], "is 6 counts the frames"),
    "times of day": (["a12_04_58.738.png", "a12_04_58.990.png", "a12_04_59.020.png"], [0, 1, 2], "sorted as a whole"),
    "times out of order": (["04_59.020", "04_58.738", "04_58.990"], [2, 0, 1], "sorted as a whole"),
    "fractions of any length": (["58.738", "58.79", "59.8"], [0, 1, 2], "sorted as a whole"),
    "times within a second": (["58.738369.png", "58.790509.png", "58.860000.png"], [0, 1, 2], "uneven steps"),
    "even steps": (["t=0.png", "t=40.png", "t=80.png", "t=160.png"], [0, 1, 2, 4], "in steps of 40"),
    "not alike": (["b2.png", "a1.png", "7.png"], [0, 1, 2], "in the order of the file"),
    "one image": (["20_cam2.jpg"], [0], ""),
    "spelled in two ways": (["7.png", "07.png", "8.png"], [0, 1, 2], "sorted as a whole"),
}


@pytest.mark.parametrize("case", NAMES)
def test_images(case):
    names, frames, note = NAMES[case]
    twice = [name for name in names for _ in range(2)]
    found, told = of_images(twice, HERE)
    assert found == [frame for frame in frames for _ in range(2)]
    assert note in told


@pytest.mark.parametrize(
    "names", [["1/0.jpg", "1/1.jpg", "2/0.jpg", "2/1.jpg"], [f"c{c}_{t}" for t in (5, 6) for c in (3, 4)]]
)
def test_two_clips_in_one_are_told_apart(names):
    with pytest.raises(ReadError, match=r"of several clips: one file each"):
        of_images(names, HERE)


def test_times_of_day_are_frames_in_their_order(imported, tmp_path):
    """120 frames of 25 a second, over three seconds whose last digits begin anew."""
    joints = np.random.default_rng(0).uniform(1, 9, (120, 17, 2)).round(3)
    persons = [
        {
            "image_id": f"2020-01-01T12_04_{17 + 40 * t // 1000}.{40 * t % 1000:03d}.png",
            "keypoints": np.c_[joints[t], np.ones(17)].ravel().tolist(),
            "idx": [0.0],
        }
        for t in range(120)
    ]
    (tmp_path / "in" / "a.json").write_text(json.dumps(persons))
    store = imported("alphapose")
    np.testing.assert_array_equal(store.recording(0)[0], -joints.astype(np.float32))
    assert [notice["reason"] for notice in store.report["notices"]] == ["frames"]


def test_images_of_openpose_may_have_any_name(imported, tmp_path):
    joints = np.random.default_rng(0).uniform(1, 9, (4, 25, 2)).round(3)
    folder = tmp_path / "in" / "wave" / "c1"
    folder.mkdir(parents=True)
    for t in range(4):
        keypoints = np.c_[joints[t], np.ones(25)].ravel().tolist()
        content = json.dumps({"people": [{"pose_keypoints_2d": keypoints}]})
        (folder / f"{8 + t + (t > 1):06d}_cam2_keypoints.json").write_text(content)
    store = imported("openpose")
    expected = np.insert(-joints, 2, np.nan, 0).astype(np.float32)
    np.testing.assert_array_equal(store.recording(0)[0], expected)
    (folder / "other_000099_keypoints.json").write_text((folder / "000008_cam2_keypoints.json").read_text())
    with pytest.raises(ReadError, match=r"are not named alike: one clip each"):
        load("openpose", sorted(folder.iterdir()))
