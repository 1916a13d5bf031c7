import pickle

import numpy as np
import pytest

from skelcl.data.convert import convert
from skelcl.data.formats import ntu
from skelcl.data.formats.ntu_release import splits
from skelcl.data.formats.pyskl import IMAGE, open_pyskl, write_pyskl
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.store import fill_joints
from skelcl.data.synthetic import ntu as synthetic_ntu
from skelcl.errors import InputError
from skelcl.skeleton import COCO17, H36M17, HAND21, MEDIAPIPE33, NTU25

NAMES = ["S001C001P001R001A001", "S001C002P003R002A050", "S017C003P002R001A060"]


def poses(shape, seed=0):
    return np.random.default_rng(seed).normal(1.0, 0.3, shape).astype(np.float16)


def annotation(name, label, keypoint, **others):
    return {"frame_dir": name, "label": label, "total_frames": keypoint.shape[1], "keypoint": keypoint, **others}


def content(changes=None):
    """Three clips of NTU RGB+D as PYSKL's script leaves them."""
    clips = [
        annotation(NAMES[0], 0, poses((1, 5, 25, 3), 0)),
        annotation(NAMES[1], 49, poses((2, 4, 25, 3), 1)),
        annotation(NAMES[2], 59, poses((2, 3, 25, 3), 2)),
    ]
    split = {"xsub_train": NAMES[:2], "xsub_val": NAMES[2:], "xview_train": NAMES[1:], "xview_val": NAMES[:1]}
    return {"split": split, "annotations": clips} | (changes or {})


def flat(names=("v_a", "v_b", "v_c", "v_d"), **others):
    """Four clips of poses in images, with scores."""
    clips = []
    for n, name in enumerate(names):
        score = np.random.default_rng(n).uniform(0.1, 1, (2, 6, 17)).astype(np.float16)
        score[0, 2, 5] = 0
        keypoint = (poses((2, 6, 17, 2), n) * 300).astype(np.float16)
        clips.append(annotation(name, n % 2, keypoint, keypoint_score=score, img_shape=(1080, 1920), **others))
    split = {"train1": ["v_a", "v_b"], "test1": ["v_c"], "train2": ["v_c", "v_d"], "test2": ["v_a", "v_b"]}
    return {"split": split, "annotations": clips}


def write(folder, value, protocol=4):
    file = folder / "clips.pkl"
    file.write_bytes(pickle.dumps(value, protocol))
    return file


def store_of(opened, root, name="mine"):
    info = DatasetInfo(
        name, opened.skeleton, opened.classes, 1, opened.axes, opened.units, opened.fps, opened.channels, opened.recipe
    )
    return convert(root, info, opened.sources, opened.read, kind=opened.kind, parameters=opened.parameters)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_clips_of_ntu(protocol, tmp_path):
    given = content()
    opened = open_pyskl(write(tmp_path, given, protocol))
    assert (opened.kind, opened.recipe, opened.channels, opened.skeleton, opened.fps) == ("pyskl", "none", 3, NTU25, 30)
    assert opened.summary == "PYSKL pickle: 3 clips, 60 classes, 25 joints in 3D, splits xsub, xview, recipe none"
    assert opened.classes == ntu.info("ntu60").classes
    store = store_of(opened, tmp_path)
    assert store.ids.tolist() == NAMES
    for n, clip in enumerate(given["annotations"]):
        np.testing.assert_array_equal(store.recording(n), clip["keypoint"].astype(np.float32))
    for column, values in (
        ("label", [0, 49, 59]),
        ("subject", [1, 3, 2]),
        ("camera", [1, 2, 3]),
        ("setup", [1, 1, 17]),
    ):
        assert store.index[column].tolist() == values


def test_zeros_are_missing_and_the_length_is_kept(tmp_path):
    given = content()
    first, second, third = (clip["keypoint"] for clip in given["annotations"])
    first[0, 3:] = 0
    first[0, 1, 7] = 0
    second[1] = 0
    third[1, 1:] = np.nan
    store = store_of(open_pyskl(write(tmp_path, given)), tmp_path)
    assert store.index["n_frames"].tolist() == [5, 4, 3]
    assert store.index["n_bodies"].tolist() == [1, 1, 2]
    found = store.recording(0)
    assert np.isnan(found[0, 3:]).all()
    assert np.isnan(found[0, 1, 7]).all()
    assert np.isnan(found).any(-1).sum() == 2 * 25 + 1
    assert np.isnan(store.recording(2)[1, 1:]).all()


def test_a_joint_that_is_always_at_zero_is_the_origin(tmp_path):
    given = content()
    for clip in given["annotations"]:
        clip["keypoint"][..., 0, :] = 0
    given["annotations"][0]["keypoint"][0, 3:] = 0
    given["annotations"][0]["keypoint"][0, 1, 7] = 0
    store = store_of(open_pyskl(write(tmp_path, given)), tmp_path)
    assert len(store) == 3
    found = store.recording(0)
    assert (found[0, :3, 0] == 0).all()
    assert np.isnan(found).any(-1).sum() == 2 * 25 + 1
    (tmp_path / "out").mkdir()
    write_pyskl(store, tmp_path / "out", splits("ntu60", store.index))
    again = store_of(open_pyskl(tmp_path / "out" / "mine_3danno.pkl"), tmp_path / "out", "again")
    np.testing.assert_array_equal(again.ids, store.ids)
    assert (again.recording(0)[0, :3, 0] == 0).all()


def test_flat_poses_with_scores(tmp_path):
    given = flat()
    given["annotations"][0]["keypoint"][1, 3, 4] = 0  # seen in the corner of the image
    opened = open_pyskl(write(tmp_path, given))
    assert (opened.skeleton, opened.channels, opened.units, opened.axes, opened.fps) == (COCO17, 2, "px", IMAGE, None)
    assert opened.classes == ("0", "1")
    assert opened.parameters == {"tracks": "by distance", "split": "1", "img_shape": [1080, 1920]}
    store = store_of(opened, tmp_path)
    assert store.ids.tolist() == ["test/v_c", "train/v_a", "train/v_b"]
    expected = -given["annotations"][0]["keypoint"].astype(np.float32)
    expected[0, 2, 5] = np.nan
    np.testing.assert_array_equal(store.recording(1), expected)
    assert [notice["message"] for notice in opened.notices] == [
        "1 clips are in no part of the split '1', for example 'v_d'"
    ]


def test_flat_poses_without_scores(tmp_path):
    given = flat()
    for clip in given["annotations"]:
        del clip["keypoint_score"], clip["img_shape"]
    given["annotations"][0]["keypoint"][1, 3, 4] = 0
    opened = open_pyskl(write(tmp_path, given))
    assert "img_shape" not in opened.parameters
    found = store_of(opened, tmp_path).recording(1)
    assert np.argwhere(np.isnan(found[..., 0])).tolist() == [[1, 3, 4]]


def test_another_split_gives_other_parts(tmp_path):
    file = write(tmp_path, flat())
    opened = open_pyskl(file, "2")
    assert sorted(source.name for source in opened.sources) == ["test/v_a", "test/v_b", "train/v_c", "train/v_d"]
    assert opened.notices == []
    with pytest.raises(InputError, match=r"--split 'xsub': the splits of .*clips\.pkl are 1, 2"):
        open_pyskl(file, "xsub")
    given = flat()
    given["split"] = {"train": ["v_a", "v_b"], "val": ["v_c"], "test": ["v_d", "gone"]}
    opened = open_pyskl(write(tmp_path, given))
    assert [source.name for source in opened.sources] == ["train/v_a", "train/v_b", "test/v_d"]
    assert [notice["message"] for notice in opened.notices] == [
        "the val part is left out, since there is a test part beside it",
        "1 names have no clip in the split 'default', for example 'gone'",
    ]
    given["split"] = {"train": ["v_a", "v_b"], "val": ["v_c", "v_d"]}
    opened = open_pyskl(write(tmp_path, given))
    assert [source.name for source in opened.sources] == ["train/v_a", "train/v_b", "test/v_c", "test/v_d"]
    assert [notice["message"] for notice in opened.notices] == ["there is no test part: clips of val are called test/…"]
    del given["split"]
    opened = open_pyskl(write(tmp_path, given))
    assert [source.name for source in opened.sources] == ["v_a", "v_b", "v_c", "v_d"]


def test_other_files_are_left_to_others(tmp_path):
    (tmp_path / "text").write_text("no pickle")
    for place in (
        tmp_path / "text",
        tmp_path,
        write(tmp_path, [1]),
        write(tmp_path, {"a": 1}),
        write(tmp_path, (["name"], [0])),
    ):
        assert open_pyskl(place) is None


def changed(**changes):
    """The file with other entries of the second clip; ``None`` takes an entry away."""
    given = content()
    clip = given["annotations"][1] | changes
    given["annotations"][1] = {key: value for key, value in clip.items() if value is not None}
    return given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (content({"annotations": []}), "annotations are an empty list, not a list of clips"),
        (content({"annotations": {"a": 1}}), "annotations are a dict of 1 with the keys 'a'"),
        (content({"annotations": [3]}), "annotation 0: 3 instead of a dict"),
        (content({"split": ["a"]}), "split is a list of 1, first a str, not a dict"),
        (content({"split": {"xsub_train": 3}}), "the split 'xsub_train' is 3, not a list of names"),
        (content({"split": {"xsub_train": [3]}}), "the split 'xsub_train' is a list of 1"),
        (content({"split": {"half": ["a"]}}), "the split 'half' is no train, val or test part"),
        (content({"split": {1: ["a"]}}), "a split is called 1"),
        (content({"split": {"train": NAMES, "val": NAMES}}), "the split 'default' has 'S001C001P001R001A001' in both"),
        (changed(keypoint=None, total_frames=None), "annotation 1: the key 'keypoint' is missing in a dict of 2 with"),
        (changed(keypoint=[[1.0]]), "annotation 1: keypoint is a list of 1, first a list, not an array"),
        (changed(keypoint=np.array([[None]])), r"keypoint is an array \(1, 1\) object, not an array of numbers"),
        (changed(keypoint=poses((4, 25, 3))), r"annotation 1 \(S001C002P003R002A050\): keypoint is \(4, 25, 3\)"),
        (changed(keypoint=poses((1, 4, 17, 2))), r"keypoint is \(1, 4, 17, 2\), not \(M, T, 25, 3\)"),
        (changed(frame_dir="two\nlines", total_frames=7), r"annotation 1 \(two lines\): total_frames is 7, but"),
        (changed(total_frames=7), r"total_frames is 7, but keypoint is \(2, 4, 25, 3\)"),
        (changed(total_frames=np.ones(2)), r"total_frames is an array \(2,\) float64, but keypoint is"),
        (changed(keypoint_score=poses((2, 4, 17))), r"keypoint_score is \(2, 4, 17\), not \(2, 4, 25\)"),
        (changed(frame_dir=3), "annotation 1: frame_dir is 3, not a name"),
        (changed(frame_dir=None), "annotation 1: frame_dir is nothing, not a name"),
        (changed(frame_dir=NAMES[0], label=0), "the name 'S001C001P001R001A001' occurs twice"),
        (changed(label="drink"), r"label is the text 'drink', not a class"),
        (changed(label=48), "shows action A050, but its label is 48"),
        (changed(label=-2), "label 1 is -2"),
        (changed(label=1.5), "label 1 is 1.5"),
        (changed(label=True), "label is True"),
        ({"annotations": [annotation("a", 0, poses((1, 4, 24, 3)))]}, r"keypoint is \(1, 4, 24, 3\), not .*17 × 2D"),
        ({"annotations": [annotation("a", 0, poses((4, 25, 3)))]}, r"keypoint is \(4, 25, 3\), not \(M, T, V, C\)"),
        (flat(names=("x", "y")), "the split '1' names none of the 2 clips"),
    ],
)
def test_files_that_contradict_themselves(given, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        open_pyskl(write(tmp_path, given))
    assert "clips.pkl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_clips_of_nobody_are_reported_one_by_one(tmp_path):
    given = content()
    given["annotations"][0]["keypoint"][:] = 0
    opened = open_pyskl(write(tmp_path, given))
    info = DatasetInfo("mine", opened.skeleton, opened.classes, 1, opened.axes)
    store = convert(tmp_path, info, opened.sources, opened.read, kind="pyskl", max_failed=0.5)
    assert store.ids.tolist() == NAMES[1:]
    assert store.report["summary"] == [{"outcome": "failed", "reason": "no_skeleton", "count": 1}]


def test_clips_travel_to_other_processes(tmp_path):
    opened = open_pyskl(write(tmp_path, flat()))
    for source in opened.sources:
        (found,), (expected,) = opened.read(pickle.loads(pickle.dumps(source.where))), opened.read(source.where)
        np.testing.assert_array_equal(found.joints, expected.joints)


# Out, and in again


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A store from raw text."""
    folder = tmp_path_factory.mktemp("ntu")
    synthetic_ntu.write_ntu(folder / "raw", "ntu60", subjects=3, actions=6, setups=1, seed=1)
    return ntu.prepare([folder / "raw"], folder)


def test_from_raw_text_and_back(prepared, tmp_path):
    told = write_pyskl(prepared, tmp_path, splits("ntu60", prepared.index))
    (file,) = tmp_path.iterdir()
    assert file.name == "ntu60_3danno.pkl"
    assert told[0] == "ntu60_3danno.pkl: 54 clips, splits xsub_train, xsub_val, xview_train, xview_val, recipe none"
    content = pickle.loads(file.read_bytes())  # as PYSKL does
    for name, rule in (("xsub", prepared.index["subject"] != 3), ("xview", prepared.index["camera"] != 1)):
        assert content["split"][f"{name}_train"] == prepared.ids[rule].tolist()
        assert content["split"][f"{name}_val"] == prepared.ids[~rule].tolist()
    for clip in content["annotations"]:
        assert list(clip) == ["frame_dir", "label", "total_frames", "keypoint"]
        assert clip["keypoint"].dtype == np.float16
        assert clip["keypoint"].shape[1:] == (clip["total_frames"], 25, 3)
        assert np.isfinite(clip["keypoint"]).all()
    again = store_of(open_pyskl(file), tmp_path)
    missing = 0
    for name in ("id", "label", "n_frames", "n_bodies", "subject", "camera", "setup", "replication"):
        np.testing.assert_array_equal(again.index[name], prepared.index[name], err_msg=name)
    for n in range(len(prepared)):
        expected = prepared.recording(n).copy()
        missing += np.isnan(expected).any()
        fill_joints(expected)
        np.testing.assert_array_equal(again.recording(n), expected.astype(np.float16).astype(np.float32))
    assert missing  # some bodies were lost in between
    assert told[-1].startswith(f"lost: {missing} clips have missing frames or joints")


def test_flat_poses_and_back(tmp_path):
    store = store_of(open_pyskl(write(tmp_path, flat())), tmp_path)
    (tmp_path / "out").mkdir()
    train = np.char.startswith(store.ids, "train/")
    write_pyskl(store, tmp_path / "out", {"imported": train})
    content = pickle.loads((tmp_path / "out" / "mine_2danno.pkl").read_bytes())
    assert content["split"] == {"train": ["v_a", "v_b"], "val": ["v_c"]}
    given = {clip["frame_dir"]: clip for clip in flat()["annotations"]}
    for clip in content["annotations"]:
        own = given[clip["frame_dir"]]
        np.testing.assert_array_equal(clip["keypoint_score"], own["keypoint_score"] > 0)
        np.testing.assert_array_equal(
            clip["keypoint"], np.where(own["keypoint_score"][..., None] > 0, own["keypoint"], 0)
        )
        assert clip["img_shape"] == clip["original_shape"] == (1080, 1920)
    again = store_of(open_pyskl(tmp_path / "out" / "mine_2danno.pkl"), tmp_path / "out", "again")
    assert again.ids.tolist() == store.ids.tolist()
    np.testing.assert_array_equal(again.joints, store.joints)


def test_names_that_lose_their_part_stay_different(tmp_path):
    def read(name):
        return [Recording(name, np.ones((1, 2, 25, 3)) * [1, 2, 3], 0)]

    info = DatasetInfo("mine", NTU25, ("a",), 1, "as given")
    sources = [Source(name, name, "") for name in ("train/a", "test/a")]
    store = convert(tmp_path, info, sources, read, kind="made", jobs=1)
    write_pyskl(store, tmp_path, {"imported": np.array([False, True])})
    content = pickle.loads((tmp_path / "mine_3danno.pkl").read_bytes())
    assert content["split"] == {"train": ["train/a"], "val": ["test/a"]}


def test_layouts_that_pyskl_does_not_have(tmp_path):
    info = DatasetInfo("mine", H36M17, ("a",), 1, "as given")
    joints = np.ones((1, 2, 17, 3))
    store = convert(
        tmp_path, info, [Source("a", "a", "")], lambda name: [Recording(name, joints, 0)], kind="made", jobs=1
    )
    with pytest.raises(InputError, match="no PYSKL file has 17 joints with 3 coordinates"):
        write_pyskl(store, tmp_path, {})


@pytest.mark.parametrize("alone", [False, True])
def test_a_list_of_annotations_and_a_single_one_need_no_splits(tmp_path, alone):
    clips = flat()["annotations"]
    opened = open_pyskl(write(tmp_path, clips[0] if alone else clips))
    assert [source.name for source in opened.sources] == (["v_a"] if alone else ["v_a", "v_b", "v_c", "v_d"])
    whole = open_pyskl(write(tmp_path, {"annotations": clips}))
    np.testing.assert_array_equal(
        opened.read(opened.sources[0].where)[0].joints, whole.read(whole.sources[0].where)[0].joints
    )


def test_clips_without_a_label_are_unlabelled(tmp_path):
    clips = flat()["annotations"]
    for clip in clips:
        del clip["label"]
    opened = open_pyskl(write(tmp_path, clips))
    assert opened.classes == ()
    assert opened.read(opened.sources[0].where)[0].label == -1


def test_persons_listed_beside_their_frames_are_put_together(tmp_path):
    frames = np.array([0, 2, 0, 3], np.int16)
    listed = np.concatenate([poses((4, 17, 2)) * 300, np.full((4, 17, 1), 0.5, np.float16)], -1).astype(np.float16)
    listed[2, :, :2] += 1000
    clip = {"frame_dir": "v", "label": 0, "total_frames": 4, "keypoint": listed, "frame_inds": frames}
    opened = open_pyskl(write(tmp_path, {"annotations": [clip]}))
    joints = opened.read(opened.sources[0].where)[0].joints
    expected = np.full((2, 4, 17, 2), np.nan, np.float32)
    for n, (body, frame) in enumerate([(0, 0), (0, 2), (1, 0), (0, 3)]):
        expected[body, frame] = -listed[n, :, :2]
    np.testing.assert_array_equal(joints, expected)
    with pytest.raises(InputError, match="frame_inds are"):
        open_pyskl(write(tmp_path, {"annotations": [clip | {"total_frames": 3}]}))


@pytest.mark.parametrize("layout", [H36M17, HAND21, MEDIAPIPE33])
@pytest.mark.parametrize("channels", [2, 3])
def test_a_layout_that_is_named_may_have_any_joints(tmp_path, layout, channels):
    keypoint = poses((1, 5, layout.num_joints, channels))
    file = write(tmp_path, [annotation("v", 0, keypoint)])
    opened = open_pyskl(file, layout=layout)
    assert (opened.skeleton, opened.channels) == (layout, channels)
    joints = opened.read(opened.sources[0].where)[0].joints
    np.testing.assert_array_equal(joints, keypoint.astype(np.float32) * (-1 if channels == 2 else 1))
    with pytest.raises(InputError, match=r"not \(M, T, 25, 2 or 3\) of ntu25"):
        open_pyskl(file, layout=NTU25)
    if layout.num_joints > 17:
        with pytest.raises(InputError, match="--layout names others"):
            open_pyskl(file)
