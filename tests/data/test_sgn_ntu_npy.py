import os
import pickle

import numpy as np
import pytest

from skelcl.data import SkeletonStore
from skelcl.data.convert import convert
from skelcl.data.formats import ntu, ntu_npy, sgn
from skelcl.data.formats.ntu_npy import open_ntu_npy, write_ntu_npy
from skelcl.data.formats.ntu_skeleton import parse
from skelcl.data.formats.sgn import open_sgn, write_sgn
from skelcl.data.import_arrays import convert_arrays
from skelcl.data.recording import DatasetInfo, ReadError, Recording, Source
from skelcl.data.store import fill_joints
from skelcl.data.synthetic import ntu as synthetic_ntu
from skelcl.errors import InputError
from skelcl.skeleton import COCO17, NTU25

NAME = "S001C002P003R002A013"
LISTED = "S001C002P005R002A008"  # among the missing skeletons


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ntu") / "raw"
    synthetic_ntu.write_ntu(folder, "ntu60", subjects=3, actions=6, setups=1, seed=1)
    return folder


@pytest.fixture(scope="module")
def prepared(raw):
    return ntu.prepare([raw], raw.parent)


def texts(raw):
    for file in sorted(raw.iterdir()):
        yield file.stem, parse(file.read_bytes(), str(file))


def store_of(opened, root, name="mine", **options) -> SkeletonStore:
    info = DatasetInfo(
        name, opened.skeleton, opened.classes, 1, opened.axes, opened.units, opened.fps, opened.channels, opened.recipe
    )
    options = {"parameters": opened.parameters, "notices": opened.notices, **options}
    return convert(root, info, opened.sources, opened.read, kind=opened.kind, **options)


def filled(store, position):
    joints = store.recording(position).copy()
    fill_joints(joints)
    return joints


def same_index(one, other, *more):
    for name in ("id", "label", "subject", "camera", "setup", "replication", *more):
        np.testing.assert_array_equal(one.index[name], other.index[name], err_msg=name)


# SGN


def first_step(raw):
    """What SGN's first script makes of raw text: frames without a body are cut out, every id is a track."""
    out = []
    for name, content in texts(raw):
        bodies = content.bodies
        place = {frame: n for n, frame in enumerate(np.unique(bodies.frame).tolist())}
        data = {}
        for number, own in enumerate(content.ids):
            rows = bodies.track == number
            data[str(own)] = {
                "joints": bodies.joints[rows].reshape(-1, 3),
                "colors": np.zeros((rows.sum(), 25, 2), np.float32),
                "interval": [place[frame] for frame in bodies.frame[rows].tolist()],
            }
            if len(content.ids) > 1:
                data[str(own)]["motion"] = np.sum(np.var(data[str(own)]["joints"], axis=0))
        out.append({"name": name, "num_frames": len(place), "data": data})
    return out


@pytest.mark.parametrize("protocol", [2, 5])
def test_sgn_tracks_become_what_prepare_makes_of_the_text(protocol, raw, prepared, tmp_path):
    (tmp_path / "raw_skes_data.pkl").write_bytes(pickle.dumps(first_step(raw), protocol))
    opened = open_sgn(tmp_path / "raw_skes_data.pkl")
    assert (opened.kind, opened.recipe, opened.fps) == ("sgn", "none", 30)
    assert opened.summary == "SGN raw_skes_data: 54 clips with all body tracks, 60 classes, recipe none"
    assert opened.classes == ntu.info("ntu60").classes
    store = store_of(opened, tmp_path)
    same_index(store, prepared)
    cut = 0
    for n, (_, content) in enumerate(texts(raw)):
        there = np.unique(content.bodies.frame)
        cut += len(there) < content.bodies.num_frames
        np.testing.assert_array_equal(store.recording(n), prepared.recording(n)[:, there])
    assert cut


def test_from_raw_text_to_sgn_and_back(prepared, tmp_path):
    told = write_sgn(prepared, tmp_path, {})
    clips = pickle.loads((tmp_path / "raw_skes_data.pkl").read_bytes())  # as SGN's second script does
    cut = 0
    for n, clip in enumerate(clips):
        assert clip["name"] == prepared.ids[n]
        joints = filled(prepared, n)
        joints = joints[:, ~np.isnan(joints).all((0, 2, 3))]
        cut += joints.shape[1] < prepared.index["n_frames"][n]
        assert clip["num_frames"] == joints.shape[1]
        assert len(clip["data"]) == len(joints)
        for body, track in zip(joints, clip["data"].values(), strict=True):
            assert track["interval"] == np.flatnonzero(~np.isnan(body).all((1, 2))).tolist()
            assert track["colors"].shape == (len(track["interval"]), 25, 2)
            np.testing.assert_array_equal(track["joints"].reshape(-1, 25, 3), body[track["interval"]])
            assert ("motion" in track) == (len(joints) > 1)
            if len(joints) > 1:
                np.testing.assert_allclose(track["motion"], np.sum(np.var(track["joints"], axis=0)), rtol=1e-4)
    assert cut
    assert told[-1] == f"lost: {cut} clips have frames without a body, which were cut out"
    store = store_of(open_sgn(tmp_path / "raw_skes_data.pkl"), tmp_path)
    same_index(store, prepared, "n_bodies")
    for n in range(len(prepared)):
        expected = filled(prepared, n)
        np.testing.assert_array_equal(store.recording(n), expected[:, ~np.isnan(expected).all((0, 2, 3))])


def track(frames=(0, 1, 2), seed=0):
    joints = np.random.default_rng(seed).normal(2.0, 0.2, (len(frames) * 25, 3)).astype(np.float32)
    return {"joints": joints, "interval": list(frames)}


def sgn_clip(**changes):
    return {"name": NAME, "num_frames": 3, "data": {"72057594037944738": track()}} | changes


def sgn_file(folder, *clips):
    (folder / "raw.pkl").write_bytes(pickle.dumps(list(clips)))
    return folder / "raw.pkl"


def test_sgn_orders_tracks_by_their_beginning(tmp_path):
    """Dictionaries of Python 2 had no order: the track that begins first is the first body."""
    early, late = track(range(10)), track(range(5, 15), 1)  # both too short, so the first of them is kept
    for data in ({"2": late, "1": early}, {"1": early, "2": late}):
        opened = open_sgn(sgn_file(tmp_path, sgn_clip(num_frames=15, data=data)))
        (found,) = opened.read(opened.sources[0].where)
        np.testing.assert_array_equal(found.joints[0, :10], early["joints"].reshape(10, 25, 3))


def test_sgn_leaves_out_listed_clips(tmp_path):
    opened = open_sgn(sgn_file(tmp_path, sgn_clip(), sgn_clip(name=LISTED)))
    assert [source.name for source in opened.sources] == [NAME]
    assert [(notice["id"], notice["reason"]) for notice in opened.notices] == [(LISTED, "missing_list")]


def test_sgn_names_may_have_an_ending(tmp_path):
    assert [s.name for s in open_sgn(sgn_file(tmp_path, sgn_clip(name=f"{NAME}.skeleton"))).sources] == [NAME]


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([sgn_clip(), 3], "clip 1 is 3, not a dict with name, num_frames and data"),
        ([sgn_clip(), {"name": NAME}], "clip 1 is a dict of 1 with the keys 'name', not"),
        ([sgn_clip(name=3)], "the name of clip 0 is 3, not a text"),
        ([sgn_clip(name="walk")], "clip 0 is called 'walk', which is no clip of NTU"),
        ([sgn_clip(), sgn_clip()], f"the name '{NAME}' occurs twice"),
    ],
)
def test_sgn_files_that_contradict_themselves(clips, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        open_sgn(sgn_file(tmp_path, *clips))
    assert "raw.pkl" in str(caught.value)


def body(**changes):
    return sgn_clip(data={"7": track() | changes})


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (sgn_clip(num_frames="3"), "num_frames is the text '3', not 0 to 100000"),
        (sgn_clip(num_frames=10**12), "num_frames is 1000000000000, not 0 to"),
        (sgn_clip(data=[1]), "data are a list of 1, first a int, not a dict of bodies"),
        (sgn_clip(data={}), "has no body"),
        (sgn_clip(data={"7": 3}), "body the text '7' is 3, not a dict with joints and interval"),
        (body(joints=[1.0]), r"joints are a list of 1, first a float, not \(75, 3\) for 3 frames"),
        (body(joints=np.ones((50, 3), np.float32)), r"joints are an array \(50, 3\) float32, not \(75, 3\)"),
        (body(joints=np.array([[None]])), r"joints are an array \(1, 1\) object"),
        (body(joints=np.zeros((75, 3), np.float32)), "no frame shows a body"),
        (body(interval=[]), "interval is an empty list, not a list of frames"),
        (body(interval=[0, 1.5, 2]), "interval is a list of 3, first a int, not"),
        (body(interval=[0, 2, 1]), "interval must ascend within 3 frames"),
        (body(interval=[0, 1, 3]), "interval must ascend within 3 frames"),
        (body(interval=[-1, 1, 2]), "interval must ascend within 3 frames"),
        (body(interval=[0, 1]), r"joints are an array \(75, 3\) float32, not \(50, 3\) for 2 frames"),
    ],
)
def test_sgn_clips_that_cannot_be_used(clip, message, tmp_path):
    opened = open_sgn(sgn_file(tmp_path, clip))
    with pytest.raises(ReadError, match=message) as caught:
        opened.read(opened.sources[0].where)
    assert NAME in str(caught.value)
    with pytest.raises(InputError, match="1 of 1 files could not be used"):
        store_of(opened, tmp_path)
    assert not (tmp_path / "mine").exists()


# npy files


def tool(folder, name, bodies, **changes):
    """What the Python tool of the data set makes of the bodies of all frames: one array for each place."""
    counts = np.bincount(bodies.frame, minlength=bodies.num_frames).tolist()
    places = np.zeros((max(counts), bodies.num_frames, 25, 3))
    places[bodies.slot, bodies.frame] = bodies.joints
    arrays = {f"skel_body{n}": place for n, place in enumerate(places)}
    arrays |= {f"rgb_body{n}": np.zeros((bodies.num_frames, 25, 2)) for n in range(len(places))}
    content = {"file_name": name, "nbodys": counts, "njoints": 25} | arrays | changes
    np.save(folder / f"{name}.skeleton.npy", content, allow_pickle=True)


def changes_places(bodies):
    """Whether somebody is in several places of the frame records."""
    pairs = set(zip(bodies.track.tolist(), bodies.slot.tolist(), strict=True))
    return len(pairs) > len({track for track, _ in pairs})


def test_npy_files_become_what_prepare_makes_of_the_text(raw, prepared, tmp_path):
    folder = tmp_path / "raw_npy" / "deep"
    folder.mkdir(parents=True)
    whole, moved = [], 0
    for n, (name, content) in enumerate(texts(raw)):
        tool(folder, name, content.bodies)
        # Who changes the id is one person for the distance and two for the text.
        if len(content.ids) == np.bincount(content.bodies.frame).max():
            whole.append(n)
            moved += changes_places(content.bodies)
    opened = open_ntu_npy(tmp_path / "raw_npy")
    assert (opened.kind, opened.recipe, opened.classes) == ("ntu-npy", "none", ntu.info("ntu60").classes)
    assert opened.summary == "npy files of NTU RGB+D's Python tool: 54 clips, 60 classes, recipe none"
    store = store_of(opened, tmp_path)
    same_index(store, prepared, "n_frames")
    assert len(whole) > 30
    assert moved > 2
    for n in range(len(store)):
        if n in whole:
            np.testing.assert_array_equal(store.recording(n), prepared.recording(n))
        else:
            assert (~np.isnan(store.recording(n))).sum() >= (~np.isnan(prepared.recording(n))).sum()


def test_from_raw_text_to_npy_files_and_back(prepared, tmp_path):
    (tmp_path / "out").mkdir()
    assert write_ntu_npy(prepared, tmp_path / "out", {}) == ["54 files, recipe none"]
    for n, name in enumerate(prepared.ids):
        content = np.load(tmp_path / "out" / f"{name}.skeleton.npy", allow_pickle=True).item()  # as its users do
        joints = filled(prepared, n)
        assert (content["file_name"], content["njoints"]) == (name, 25)
        for t, count in enumerate(content["nbodys"]):
            there = joints[~np.isnan(joints[:, t]).all((1, 2)), t]
            assert len(there) == count
            for place in range(max(content["nbodys"])):
                expected = there[place] if place < count else np.zeros((25, 3))
                np.testing.assert_array_equal(content[f"skel_body{place}"][t], expected)
    store = store_of(open_ntu_npy(tmp_path / "out"), tmp_path)
    same_index(store, prepared, "n_frames", "n_bodies")
    for n in range(len(prepared)):
        np.testing.assert_array_equal(store.recording(n), filled(prepared, n))


def people(changes=None):
    """Content of a file: three frames of one body."""
    one = np.random.default_rng(0).normal(2.0, 0.2, (3, 25, 3))
    return {"file_name": NAME, "nbodys": [1, 1, 1], "njoints": 25, "skel_body0": one} | (changes or {})


def npy(folder, content, name=NAME):
    np.save(folder / f"{name}.skeleton.npy", content, allow_pickle=True)
    return folder / f"{name}.skeleton.npy"


def test_a_single_npy_file(tmp_path):
    store = store_of(open_ntu_npy(npy(tmp_path, people())), tmp_path)
    np.testing.assert_array_equal(store.recording(0)[0], people()["skel_body0"].astype(np.float32))
    assert store.index["label"].tolist() == [12]


@pytest.mark.parametrize("bits", [0x7FF0000000000001, 0x7FF8000000000000, 0x7E37E43C8800759C])
def test_what_float32_cannot_hold_is_a_missing_joint(tmp_path, bits):
    """A signalling and a quiet NaN, and 1e300, none of which warns."""
    content = people()
    content["skel_body0"].view(np.uint64)[1, 4, 0] = bits
    store = store_of(open_ntu_npy(npy(tmp_path, content)), tmp_path)
    expected = people()["skel_body0"].astype(np.float32)
    missing = np.isnan(store.recording(0)[0])
    assert np.argwhere(missing).tolist() == [[1, 4, c] for c in range(3)]
    np.testing.assert_array_equal(store.recording(0)[0][~missing], expected[~missing])


def test_two_people_who_trade_places(tmp_path):
    t = np.linspace(0, 1, 40)[:, None, None]
    pose = np.random.default_rng(0).normal(0, 0.3, (25, 3)) * [0.3, 1, 0.3]
    left, right = pose + 0.1 * t, 1.5 * pose + [1.0, 0, 0] - 0.1 * t
    one, two = left.copy(), right.copy()
    one[20:], two[20:] = right[20:], left[20:]
    content = people({"nbodys": [2] * 40, "skel_body0": one, "skel_body1": two})
    store = store_of(open_ntu_npy(npy(tmp_path, content)), tmp_path)
    found = sorted(store.recording(0).tolist())
    np.testing.assert_allclose(found, sorted(np.array([left, right], np.float32).tolist()))


def test_npy_files_that_are_left_out(tmp_path):
    (tmp_path / "copy").mkdir()
    npy(tmp_path, people())
    npy(tmp_path / "copy", people())
    npy(tmp_path, people(), LISTED)
    npy(tmp_path, people(), "walk")
    (tmp_path / "notes.txt").write_text("x")
    opened = open_ntu_npy(tmp_path)
    assert [source.name for source in opened.sources] == [NAME]
    assert sorted(notice["reason"] for notice in opened.notices) == ["copy", "missing_list", "other_name"]
    npy(tmp_path / "copy", people({"nbodys": [1, 1, 0]}))
    with pytest.raises(InputError, match=f"{NAME} occurs twice with different content"):
        open_ntu_npy(tmp_path)


def test_a_file_that_calls_itself_otherwise(tmp_path):
    store = store_of(open_ntu_npy(npy(tmp_path, people({"file_name": LISTED}))), tmp_path)
    assert store.ids.tolist() == [NAME]
    assert f"calls itself the text '{LISTED}'" in store.report["notices"][0]["message"]
    (found,) = ntu_npy.read(str(npy(tmp_path, people({"file_name": np.zeros(2)}))))
    assert found.warnings == ["calls itself an array (2,) float64; the name of the file is trusted"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (people({"njoints": 20}), "njoints is 20, not 25"),
        (people({"njoints": np.array([25, 25])}), r"njoints is an array \(2,\) int64, not 25"),
        (people({"nbodys": 3}), "nbodys is 3, not a list of numbers of bodies"),
        (people({"nbodys": []}), "nbodys is an empty list"),
        (people({"nbodys": [1, 5, 1]}), "nbodys holds 5, not 0 to 4 bodies"),
        (people({"nbodys": [1, -1, 1]}), "not 0 to 4 bodies"),
        (people({"nbodys": [1, 2, 1]}), r"skel_body1 is nothing, not an array \(3, 25, 3\)"),
        (people({"nbodys": [1, 1]}), r"skel_body0 is an array \(3, 25, 3\) float64, not an array \(2, 25, 3\)"),
        (people({"skel_body0": np.array([None])}), r"skel_body0 is an array \(1,\) object"),
        (people({"nbodys": [0, 0, 0]}), "no frame shows a body"),
        (people({"skel_body0": np.zeros((3, 25, 3))}), "no frame shows a body"),
        (people({"tracks": [[0], [0]]}), "tracks is a list of 2, first a list, not the bodies of 3 frames"),
        (people({"tracks": [[0], [9], [0]]}), "tracks is a list of 3"),
        (people({"tracks": [[0], ["0"], [0]]}), "tracks is a list of 3"),
        (people({"tracks": [[0], [0, 1], [0]]}), "tracks is a list of 3"),
        ([1], "holds a list of 1, first a int, not a dict"),
    ],
)
def test_npy_files_that_cannot_be_used(content, message, tmp_path):
    file = npy(tmp_path, content)
    if isinstance(content, list):
        box = np.empty((), object)
        box[()] = content
        file = npy(tmp_path, box)
    with pytest.raises(ReadError, match=message) as caught:
        ntu_npy.read(str(file))
    assert str(caught.value).startswith(str(file))


def test_strangers_are_not_run(tmp_path):
    trap = tmp_path / "trap"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(trap),)

    files = tmp_path / "files"
    files.mkdir()
    npy(files, people({"skel_body0": Evil()}))
    with pytest.raises(InputError, match=r"npy: refused, for it names 'posix\.mkdir'"):
        open_ntu_npy(files)
    npy(files, people(), "S001C001P001R001A001")  # the first file is sound, the second is met when it is read
    opened = open_ntu_npy(files)
    with pytest.raises(ReadError, match=r"refused, for it names 'posix\.mkdir'"):
        list(map(opened.read, [source.where for source in opened.sources]))
    store = store_of(opened, tmp_path, max_failed=0.5)
    assert store.ids.tolist() == ["S001C001P001R001A001"]
    (tmp_path / "raw.pkl").write_bytes(pickle.dumps([sgn_clip(data={"7": {"joints": Evil()}})]))
    with pytest.raises(InputError, match="refused"):
        open_sgn(tmp_path / "raw.pkl")
    assert not trap.exists()


def test_damaged_npy_files_fail_one_by_one(tmp_path):
    first = npy(tmp_path, people(), "S001C001P001R001A001")
    damaged = npy(tmp_path, people())
    damaged.write_bytes(damaged.read_bytes()[:900])
    opened = open_ntu_npy(tmp_path)
    store = store_of(opened, tmp_path, max_failed=0.5)
    assert store.ids.tolist() == ["S001C001P001R001A001"]
    first.write_bytes(b"")
    assert [source.name for source in opened.sources] == ["S001C001P001R001A001", NAME]
    with pytest.raises(ReadError, match="cannot be read as an array of numpy"):
        ntu_npy.read(str(first))
    with first.open("wb") as stream:
        stream.truncate(ntu_npy.MAX_BYTES + 1)
    with pytest.raises(ReadError, match="of which 67,108,864 are accepted"):
        ntu_npy.read(str(first))
    first.unlink()
    first.symlink_to(tmp_path / "gone")
    with pytest.raises(ReadError, match="No such file"):
        ntu_npy.read(str(first))


# Whatever is not theirs


def test_other_files_are_left_to_others(tmp_path):
    (tmp_path / "empty").mkdir()
    numbers, objects, text = tmp_path / "numbers.npy", tmp_path / "objects.npy", tmp_path / "text"
    np.save(numbers, np.zeros((2, 3)))
    np.save(objects, {"a": 1}, allow_pickle=True)
    text.write_text("x")
    for place in (tmp_path / "empty", numbers, objects, text):
        assert open_ntu_npy(place) is None
    for value in ([], [1], {"a": 1}, [{"name": "x"}], ([1], [2])):
        text.write_bytes(pickle.dumps(value))
        assert open_sgn(text) is None
    assert open_sgn(tmp_path) is None
    npy(tmp_path / "empty", people(), "walk")
    with pytest.raises(InputError, match="no file is called after a clip of NTU"):
        open_ntu_npy(tmp_path / "empty")


@pytest.mark.parametrize("write", [write_sgn, write_ntu_npy])
@pytest.mark.parametrize(("id", "skeleton"), [("walk", NTU25), (NAME, COCO17)])
def test_clips_of_others_are_not_written(write, id, skeleton, tmp_path):
    joints = np.random.default_rng(0).normal(2, 0.2, (1, 3, skeleton.num_joints, 3))
    info = DatasetInfo("mine", skeleton, ("a",), 1, "as given")
    store = convert(tmp_path, info, [Source(id, id, "")], lambda _: [Recording(id, joints, 0)], kind="made", jobs=1)
    with pytest.raises(InputError, match="hold clips of NTU RGB"):
        write(store, tmp_path, {})


def test_more_bodies_than_the_tool_keeps(tmp_path):
    joints = np.random.default_rng(0).normal(2, 0.2, (5, 3, 25, 3))
    info = DatasetInfo("mine", NTU25, ("a",), 1, "as given")
    store = convert(tmp_path, info, [Source(NAME, 0, "")], lambda _: [Recording(NAME, joints, 0)], kind="made", jobs=1)
    assert write_ntu_npy(store, tmp_path, {})[-1].startswith("lost: 1 clips have more than 4 bodies")
    again = store_of(open_ntu_npy(tmp_path / f"{NAME}.skeleton.npy"), tmp_path, "again")
    np.testing.assert_array_equal(again.recording(0), store.recording(0)[:4])


def test_sgn_slots_of_a_frame():
    """The rows of the bodies of all frames, in the order of frames and bodies."""
    tracks = [(np.array([0, 2]), np.full((2, 25, 3), 1.0)), (np.array([1, 2]), np.full((2, 25, 3), 2.0))]
    made = sgn.body_frames(tracks, 4)
    assert (made.frame.tolist(), made.track.tolist(), made.slot.tolist()) == ([0, 1, 2, 2], [0, 1, 0, 1], [0, 0, 0, 1])
    assert made.joints[:, 0, 0].tolist() == [1, 2, 1, 2]
    assert made.num_frames == 4


@pytest.mark.parametrize("part", [".", "raw_data"])
def test_the_folder_of_sgn_is_taken_whole(part, tmp_path):
    for folder in ("raw_data", "denoised_data"):
        (tmp_path / "ntu" / folder).mkdir(parents=True)
    (tmp_path / "ntu" / "denoised_data" / "raw_denoised_joints.pkl").write_bytes(b"of another step")
    file = sgn_file(tmp_path / "ntu" / part, sgn_clip())
    file.rename(file.with_name("raw_skes_data.pkl"))
    assert len(convert_arrays(tmp_path / "ntu", "mine", tmp_path / "data")) == 1
