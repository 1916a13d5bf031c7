"""Lists of persons of MMPose, COCO's annotations, OpenPifPaf and Ultralytics, and raw files of data sets."""

import json

import numpy as np
import pytest

from skelcl.data.bodies import BodyFrames
from skelcl.data.formats import ntu, ntu_skeleton, pku_text
from skelcl.data.poses.single import guess_format, read_clip
from skelcl.data.store import StoreError
from skelcl.errors import InputError
from skelcl.skeleton import COCO17, HALPE26

T = 4
SURE = 0.5


def people(joints=17, seed=0):
    """Two people apart from each other who change their places in the list, (T, 2, V, 2), and their ids, (T, 2)."""
    values = np.random.default_rng(seed).uniform(10, 90, (T, 2, joints, 2)).round(2)
    values[:, 1] += 500
    ids = np.tile([3, 5], (T, 1))
    values[2], ids[2] = values[2, ::-1].copy(), [5, 3]
    return values, ids


def truth(values, ids):
    order = np.argsort(ids, 1)
    return -np.take_along_axis(values, order[..., None, None], 1).transpose(1, 0, 2, 3)


def flat(person):
    return np.concatenate([person, np.full((len(person), 1), SURE)], -1).ravel().tolist()


def write_mmpose(folder, values, ids, names=COCO17.joints):
    meta = {"keypoint_id2name": {str(n): name.replace(" ", "_") for n, name in enumerate(names)}}
    info = [
        {
            "frame_id": 7 + t,
            "instances": [
                {"keypoints": person.tolist(), "keypoint_scores": [SURE] * len(person), "track_id": int(id)}
                for person, id in zip(values[t], ids[t], strict=True)
            ],
        }
        for t in range(T)
    ]
    file = folder / "clip.json"
    file.write_text(json.dumps({"meta_info": meta, "instance_info": info}))
    return file


def write_annotations(folder, values, ids, names=COCO17.joints):
    images = [{"id": 100 + t, "file_name": f"clip/{t + 1:05d}.jpg"} for t in range(T)]
    annotations = [
        {"image_id": 100 + t, "keypoints": flat(person), "track_id": int(id), "category_id": 1}
        for t in reversed(range(T))
        for person, id in zip(values[t], ids[t], strict=True)
    ]
    kinds = [{"id": 1, "name": "person", "keypoints": [name.replace(" ", "_") for name in names]}]
    file = folder / "clip.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": kinds}))
    return file


def write_pifpaf_video(folder, values, ids):
    lines = [
        {"frame": t + 1, "predictions": [
            {"keypoints": flat(person), "id_": int(id)} for person, id in zip(values[t], ids[t], strict=True)
        ]}
        for t in range(T)
    ]  # fmt: skip
    file = folder / "clip.mp4.openpifpaf.json"
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def write_pifpaf_images(folder, values, ids):
    (folder / "wave").mkdir(exist_ok=True)
    for t in range(T):
        found = [{"keypoints": flat(person), "bbox": [0, 0, 1, 1]} for person in values[t]]
        (folder / "wave" / f"{t + 8}.jpg.predictions.json").write_text(json.dumps(found))
    return folder / "wave"


def yolo(values, ids, t):
    return [
        {
            "name": "person",
            "track_id": int(id),
            "keypoints": {"x": person[:, 0].tolist(), "y": person[:, 1].tolist(), "visible": [SURE] * len(person)},
        }
        for person, id in zip(values[t], ids[t], strict=True)
    ]


def write_yolo(folder, values, ids):
    file = folder / "clip.json"
    file.write_text(json.dumps([yolo(values, ids, t) for t in range(T)]))
    return file


def write_yolo_frames(folder, values, ids):
    (folder / "wave").mkdir(exist_ok=True)
    for t in range(T):
        (folder / "wave" / f"frame_{t + 8}.json").write_text(json.dumps(yolo(values, ids, t)))
    return folder / "wave"


WRITERS = {
    "mmpose": [write_mmpose],
    "coco-annotations": [write_annotations],
    "openpifpaf": [write_pifpaf_video, write_pifpaf_images],
    "ultralytics": [write_yolo, write_yolo_frames],
}


@pytest.mark.parametrize(("format", "write"), [(name, each) for name, them in WRITERS.items() for each in them])
def test_people_keep_their_places(imported, tmp_path, format, write):
    values, ids = people()
    clip = write(tmp_path / "in", values, ids)
    assert guess_format(clip) == format
    np.testing.assert_allclose(read_clip(clip).joints, truth(values, ids))
    store = imported(format)
    assert len(store) == 1
    assert store.skeleton == COCO17
    np.testing.assert_allclose(store.recording(0), truth(values, ids))


@pytest.mark.parametrize("write", [write_mmpose, write_annotations])
def test_names_of_keypoints_tell_the_layout(tmp_path, write):
    values, ids = people(26)
    found = read_clip(write(tmp_path, values, ids, HALPE26.joints))
    assert found.skeleton == HALPE26
    np.testing.assert_allclose(found.joints, truth(values, ids))


@pytest.mark.parametrize("write", [write_mmpose, write_annotations])
def test_joints_by_name_where_a_layout_has_most_of_them(tmp_path, write):
    names = ["nose", "head_bottom", *COCO17.joints[2:]]  # of PoseTrack's kind
    values, ids = people()
    found = read_clip(write(tmp_path, values, ids, names))
    assert found.skeleton == COCO17
    expected = truth(values, ids)
    expected[:, :, 1] = np.nan
    np.testing.assert_allclose(found.joints, expected)
    assert "taken as coco17 by the names of its keypoints, without head bottom; it lacks left eye" in found.notes[-1]


def test_names_of_no_layout_are_refused(tmp_path):
    file = write_annotations(tmp_path, *people(), [f"paw {n}" for n in range(17)])
    with pytest.raises(InputError, match=r"its keypoints are paw 0, .* no layout has these names; --layout names one"):
        read_clip(file)
    assert read_clip(file, layout="coco17").skeleton == COCO17


def test_annotations_of_several_clips_are_refused(tmp_path):
    file = write_annotations(tmp_path, *people())
    file.write_text(file.read_text().replace("clip/00002", "other/00002"))
    with pytest.raises(InputError, match=r"its images are of 2 clips \(clip, other\)"):
        read_clip(file)


@pytest.mark.parametrize(
    ("format", "name", "content", "message"),
    [
        ("mmpose", "a.json", {"meta": 1}, "'instance_info' is missing or no list; its keys are 'meta'"),
        ("mmpose", "a.json", {"instance_info": [{"a": 1}]}, "'instances' is missing or no list; its keys are 'a'"),
        ("mmpose", "a.json", [[{"keypoints": [[1, 2, 3]]}]], "keypoints are (1, 3) with scores (1,), not (V, 2)"),
        ("coco-annotations", "a.json", {"b": []}, "'images' is missing or no list; its keys are 'b'"),
        ("openpifpaf", "a.openpifpaf.json", {"frame": 1}, "'predictions' is missing or no list; its keys are 'frame'"),
        ("ultralytics", "a.json", [[{"keypoints": [1]}]], "keypoints are [1], not x, y and visible"),
    ],
)  # fmt: skip
def test_a_refusal_says_which_keys_were_found(imported, tmp_path, format, name, content, message):
    (tmp_path / "in" / name).write_text(json.dumps(content))
    with pytest.raises(StoreError) as caught:
        imported(format)
    assert message in str(caught.value)


# --- raw files of data sets -------------------------------------------------------------------------------------------


def test_a_raw_file_of_ntu_is_read_as_prepare_reads_it(tmp_path):
    values = np.random.default_rng(0).normal(2, 0.4, (5, 25, 3)).round(3).astype(np.float32)
    file = tmp_path / "S001C002P003R002A013.skeleton"
    ntu_skeleton.write_skeleton(file, BodyFrames(values, np.arange(5), np.zeros(5, int), np.zeros(5, int), 5), [7])
    assert guess_format(file) == "ntu"
    np.testing.assert_array_equal(read_clip(file).joints, ntu.read(str(file))[0].joints)
    renamed = file.rename(tmp_path / "mine.skeleton")
    np.testing.assert_allclose(read_clip(renamed).joints[0], values, atol=1e-6)


def test_a_raw_file_of_nw_ucla_is_read_under_any_name(imported, tmp_path):
    values = np.random.default_rng(0).normal(2, 0.4, (5, 20, 3)).round(3)
    content = {"file_name": "x", "label": 1, "skeletons": values.tolist()}
    for name in ("a01_s02_e00_v03", "mine"):
        (tmp_path / "in" / f"{name}.json").write_text(json.dumps(content))
        assert guess_format(tmp_path / "in" / f"{name}.json") == "nw-ucla"
        np.testing.assert_allclose(read_clip(tmp_path / "in" / f"{name}.json").joints[0], values, rtol=1e-6)
    store = imported("nw-ucla")
    assert store.meta["classes"] == ["pick up with one hand"]
    assert store.index["subject"].tolist() == [2, -1]
    assert store.index["camera"].tolist() == [3, -1]


def test_a_raw_file_of_pku_mmd_is_read(tmp_path):
    values = np.random.default_rng(0).normal(2, 0.4, (2, 5, 25, 3)).round(3).astype(np.float32)
    pku_text.write_skeleton(tmp_path / "0002-L.txt", values)
    assert guess_format(tmp_path / "0002-L.txt") == "pku-mmd"
    np.testing.assert_allclose(read_clip(tmp_path / "0002-L.txt").joints, values, atol=1e-5)
