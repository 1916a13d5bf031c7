"""Processed arrays of other code bases: what is recognised, which clips come out under which names, what is refused."""

import mmap
import pickle
import re
import shutil
import zipfile
from collections import Counter

import numpy as np
import pytest

from skelcl.data import NTU60, Custom, SkeletonStore
from skelcl.data.convert import convert
from skelcl.data.formats import agcn, ctr_gcn, ntu_release
from skelcl.data.formats.arrays import class_names, whole_labels
from skelcl.data.import_arrays import convert_arrays, open_arrays
from skelcl.data.inspection import check
from skelcl.errors import InputError
from skelcl.transforms import Normalize

TRAIN = [f"S001C{c:03d}P{p:03d}R001A{a:03d}" for a in (1, 9) for p in (1, 2, 8) for c in (1, 3)]
TEST = [f"S001C002P{p:03d}R001A{a:03d}" for a in (1, 9) for p in (3, 6)]
NAMES = TRAIN + TEST
ORIGIN, CENTRE = 1, 20


def label(name):
    return int(name[-3:]) - 1


def clip(name, bodies=None):
    """(M, T, 25, 3) in camera space; the second clip of two has two bodies."""
    rng = np.random.default_rng(NAMES.index(name))
    bodies = bodies or 1 + NAMES.index(name) % 2
    walk = np.cumsum(rng.normal(size=(bodies, 20 + NAMES.index(name), 1, 3)), 1) * 0.02
    return (rng.normal(size=(bodies, 1, 25, 3)) * 0.4 + walk + [0.3, 0.1, 3]).astype(np.float32)


def sgn(joints):
    return joints - joints[:1, :1, ORIGIN : ORIGIN + 1]


def relative(joints):
    return np.where(joints.any((1, 2, 3), keepdims=True), joints - joints[:1, :, ORIGIN : ORIGIN + 1], 0)


def padded(joints, frames=300):
    """(2, 300, 25, 3): zeros behind the clip and for an absent body."""
    out = np.zeros((2, frames, 25, 3), np.float32)
    out[: len(joints), : joints.shape[1]] = joints
    return out


def looped(joints, frames=300):
    """2s-AGCN's padding as published, body by body, for bodies that are there from frame 0."""
    out = np.zeros((2, frames, 25, 3), np.float32)
    for m, body in enumerate(joints):
        length = 1 + max(t for t, frame in enumerate(body) if frame.any())
        for t in range(frames):
            out[m, t] = body[t % length]
    return out


def one_hot(names, classes=60):
    return np.stack([[float(k == label(name)) for k in range(classes)] for name in names])


def npz(file, train=TRAIN, test=TEST, change=sgn, save=np.savez, **members):
    """An archive as CTR-GCN writes it."""
    for part, names in (("train", train), ("test", test)):
        x = np.stack([padded(change(clip(name))).transpose(1, 0, 2, 3).reshape(300, 150) for name in names])
        members = {f"x_{part}": x, f"y_{part}": one_hot(names)} | members
    save(file, **{name: array for name, array in members.items() if array is not None})
    return file


def npy(folder, change=lambda joints: padded(joints), suffix="data_joint", train=TRAIN, test=TEST, lengths=False):
    """A folder as 2s-AGCN writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, names in (("train", train), ("val", test)):
        x = np.stack([change(clip(name)).transpose(3, 1, 2, 0) for name in names])
        np.save(folder / f"{part}_{suffix}.npy", x)
        table = ([f"{name}.skeleton" for name in names], [label(name) for name in names])
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps(table))
        if lengths:
            np.save(folder / f"{part}_num_frame.npy", np.array([clip(name).shape[1] for name in names]))
    return folder


def names_file(folder, names):
    (folder / "names.txt").write_text("\n".join(f"{name}.skeleton" for name in names))
    return folder / "names.txt"


def joints_of(store):
    return {name: store.recording(n) for n, name in enumerate(store.ids.tolist())}


def same_clips(store, expected):
    """Whether ids and coordinates are the expected ones, bit by bit."""
    found = joints_of(store)
    assert sorted(found) == sorted(expected)
    for name, joints in expected.items():
        np.testing.assert_array_equal(found[name], joints, err_msg=name)
    return True


# --- CTR-GCN and MAMP -------------------------------------------------------------------------------------------------


def test_an_npz_with_names_becomes_the_clips_it_was_made_of(tmp_path, capsys):
    store = convert_arrays(npz(tmp_path / "x.npz"), "ntu60", tmp_path / "data", names=names_file(tmp_path, NAMES))
    assert same_clips(store, {name: sgn(clip(name)) for name in NAMES})
    assert store.recipe == "sgn"
    assert store.meta["parameters"]["arrays"] == store.meta["source"] == "ctr-gcn"
    told = capsys.readouterr().out
    assert "CTR-GCN/MAMP npz: 12 train + 4 test clips, 60 classes, recipe sgn" in told
    assert store.index["label"].tolist() == [label(name) for name in store.ids]
    data = NTU60(tmp_path / "data")
    assert sorted(data.ids[data.parts["train"]]) == sorted(TRAIN)
    assert data.class_names[8] == "standing up (from sitting position)"
    clips = store.clips([0, 1], 2)
    x = clips.at(clips.first[:, None].expand(-1, 3)).permute(0, 4, 2, 3, 1)
    assert (Normalize("sgn")(x, clips) == x).all()


def test_without_normalisation_the_recipe_is_none(tmp_path):
    opened = open_arrays(npz(tmp_path / "x.npz", change=lambda joints: joints), tmp_path)
    assert opened.recipe == "none"
    (recording,) = opened.read(opened.sources[0].where)
    assert recording.zeros


def slow_replay(release, protocol, names):
    """Performer after performer, camera after camera or setup after setup, as the published scripts loop."""
    field = {"xsub": slice(9, 12), "xview": slice(5, 8), "xset": slice(1, 4)}[protocol]
    first = {
        "xsub": [p for p in ntu_release.TRAIN_PERFORMERS if release == "ntu120" or p <= 40],
        "xview": [2, 3],
        "xset": range(2, 33, 2),
    }[protocol]
    others = [n for n in range(1, 107) if n not in first]
    return tuple([s for n in order for s in sorted(names) if int(s[field]) == n] for order in (first, others))


@pytest.mark.parametrize(
    ("release", "protocol"), [("ntu60", "xsub"), ("ntu60", "xview"), ("ntu120", "xsub"), ("ntu120", "xset")]
)
def test_the_order_of_the_published_scripts(release, protocol):
    names = ntu_release.official_ids(release)
    train, test = ctr_gcn.replay(release, protocol, names)
    assert (len(train), len(test)) == ntu_release.PUBLISHED[release][protocol]
    some = names[:: 300 + len(names) // 2000]
    assert ctr_gcn.replay(release, protocol, reversed(some)) == slow_replay(release, protocol, some)


def test_the_complete_data_set_gets_its_names_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ntu_release.PUBLISHED["ntu60"], "xsub", (len(TRAIN), len(TEST)))
    monkeypatch.setattr(ntu_release, "official_ids", lambda release, usable=True: sorted(NAMES))
    train, test = slow_replay("ntu60", "xsub", NAMES)
    store = convert_arrays(npz(tmp_path / "x.npz", train, test), "ntu60", tmp_path / "data")
    assert same_clips(store, {name: sgn(clip(name)) for name in NAMES})
    assert "numbered" not in capsys.readouterr().out


def test_sorted_names_are_put_in_the_order_of_the_file(tmp_path):
    train, test = slow_replay("ntu60", "xsub", NAMES)
    file = npz(tmp_path / "x.npz", train, test)
    store = convert_arrays(file, "ntu60", tmp_path / "data", names=names_file(tmp_path, sorted(NAMES)))
    assert same_clips(store, {name: sgn(clip(name)) for name in NAMES})


def test_without_names_clips_are_numbered_and_keep_their_part(tmp_path, capsys):
    store = convert_arrays(npz(tmp_path / "x.npz"), "mine", tmp_path / "data")
    assert "--names FILE gives names" in capsys.readouterr().out
    expected = {f"train/{n + 1:06d}": sgn(clip(name)) for n, name in enumerate(TRAIN)}
    expected |= {f"test/{n + 1:06d}": sgn(clip(name)) for n, name in enumerate(TEST)}
    assert same_clips(store, expected)
    data = Custom("mine", tmp_path / "data", test_prefix="test/")
    assert (len(data.parts["train"]), len(data.parts["test"])) == (len(TRAIN), len(TEST))
    assert all(name.startswith("test/") for name in data.ids[data.parts["test"]])
    assert data.num_classes == 60
    with pytest.raises(InputError, match="no id begins with 'val/'"):
        Custom("mine", tmp_path / "data", test_prefix="val/")


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_are_missing_and_warn_nobody(tmp_path):
    x = np.full((2, 3, 150), 1e300)
    x[:, :, 75:] = 2.0
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.array([0, 1]))
    opened = open_arrays(tmp_path / "x.npz", tmp_path / "scratch")
    (clip,) = opened.read(opened.sources[0].where)
    np.testing.assert_array_equal(clip.joints, np.full((1, 3, 25, 3), 2.0))  # the body of 1e300 was never seen


VAL_AND_TEST = "the val part is left out, since there is a test part beside it"
VAL_ALONE = "there is no test part: clips of val are called test/…"


@pytest.mark.parametrize(
    ("parts", "sizes", "told"),
    [
        (("train", "test"), {"train": 2, "test": 3}, []),
        (("train", "val"), {"train": 2, "test": 4}, [VAL_ALONE]),
        (("train", "val", "test"), {"train": 2, "test": 3}, [VAL_AND_TEST]),
    ],
)
@pytest.mark.parametrize("format", ["npz", "npy"])
def test_val_does_not_become_test_without_a_word(parts, sizes, told, format, tmp_path):
    counts = {"train": 2, "test": 3, "val": 4}
    arrays = {}
    for part in parts:
        x = np.random.default_rng(counts[part]).normal(2, 0.3, (counts[part], 6, 2, 25, 3)).astype("f4")
        arrays |= {f"x_{part}": x.reshape(counts[part], 6, 150), f"y_{part}": np.zeros(counts[part], int)}
        if format == "npy":
            np.save(tmp_path / f"{part}_data.npy", x.transpose(0, 4, 1, 3, 2))
            np.save(tmp_path / f"{part}_label.npy", arrays[f"y_{part}"])
    if format == "npz":
        np.savez(tmp_path / "x.npz", **arrays)
    opened = open_arrays(tmp_path / "x.npz" if format == "npz" else tmp_path, tmp_path / "scratch")
    found = Counter(source.name.partition("/")[0] for source in opened.sources)
    assert found == sizes
    assert [notice["message"] for notice in opened.notices if notice["reason"] == "val_part"] == told


def test_names_of_other_data_sets_keep_the_part(tmp_path):
    names = [f"clip-{n}" for n in range(len(NAMES))]
    store = convert_arrays(npz(tmp_path / "x.npz"), "mine", tmp_path / "data", names=names_file(tmp_path, names))
    expected = [f"train/{name}" for name in names[: len(TRAIN)]] + [f"test/{name}" for name in names[len(TRAIN) :]]
    assert store.ids.tolist() == sorted(expected)


def test_pku_mmd_of_mamp_has_its_51_classes(tmp_path):
    hot = {f"y_{part}": one_hot(names, 51) for part, names in (("train", TRAIN), ("test", TEST))}
    opened = open_arrays(npz(tmp_path / "x.npz", change=lambda joints: joints, **hot), tmp_path)
    assert len(opened.classes) == 51
    assert opened.classes[0] == "bow"
    assert opened.recipe == "none"


def test_a_body_that_repeats_the_first_one_is_absent(tmp_path):
    def copied(joints):
        return np.concatenate([sgn(joints[:1])] * 2)

    store = convert_arrays(npz(tmp_path / "x.npz", change=copied), "mine", tmp_path / "data")
    assert (store.index["n_bodies"] == 1).all()


def test_a_gap_and_a_missing_joint_survive(tmp_path):
    def holes(joints):
        joints = sgn(joints)
        joints[0, 4] = 0
        joints[0, 6, 3] = np.nan
        return joints

    store = convert_arrays(npz(tmp_path / "x.npz", change=holes), "mine", tmp_path / "data")
    for n, name in enumerate(store.ids.tolist()):
        expected = sgn(clip((TRAIN if name.startswith("train") else TEST)[int(name[-6:]) - 1]))
        expected[0, 4] = expected[0, 6, 3] = np.nan
        np.testing.assert_array_equal(store.recording(n), expected)
    assert {line["reason"] for line in store.report["summary"]} >= {"missing_frame", "missing_joint"}


def test_uncompressed_members_are_mapped_and_compressed_ones_unpacked_once(tmp_path):
    plain = convert_arrays(npz(tmp_path / "x.npz"), "plain", tmp_path / "data")
    opened = open_arrays(tmp_path / "x.npz", tmp_path / "scratch")
    values = opened.sources[0].where.array.values
    while isinstance(values, np.ndarray):
        values = values.base
    assert isinstance(values, mmap.mmap)
    assert not (tmp_path / "scratch").exists()
    packed = convert_arrays(npz(tmp_path / "y.npz", save=np.savez_compressed), "packed", tmp_path / "data")
    assert packed.meta["sha256"]["joints.npy"] == plain.meta["sha256"]["joints.npy"]
    assert {path.name for path in (tmp_path / "data").glob("[!.]*")} == {"plain", "packed"}


def test_what_a_process_gets_is_small(tmp_path):
    npz(tmp_path / "x.npz")
    for place in (tmp_path / "x.npz", npy(tmp_path / "xsub", suffix="data")):
        opened = open_arrays(place, tmp_path)
        where = opened.sources[-1].where
        where.array.values  # noqa: B018  # mapped here, which must not travel
        read, sent = pickle.loads(data := pickle.dumps((opened.read, where)))
        assert len(data) < 1000
        (found,), (expected,) = read(sent), opened.read(where)
        np.testing.assert_array_equal(found.joints, expected.joints)


def test_what_was_unpacked_serves_the_next_run(tmp_path, monkeypatch):
    file = npz(tmp_path / "y.npz", save=np.savez_compressed)

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skelcl.data.import_arrays.convert", stopped)
        with pytest.raises(KeyboardInterrupt):
            convert_arrays(file, "mine", tmp_path / "data")
    (scratch,) = (tmp_path / "data").iterdir()
    kept = {path.name: path.stat().st_mtime_ns for path in scratch.iterdir()}
    assert len(kept) == 2
    seen = {}

    def look(*args, **kwargs):
        seen.update({path.name: path.stat().st_mtime_ns for path in scratch.iterdir()})
        return convert(*args, **kwargs)

    monkeypatch.setattr("skelcl.data.import_arrays.convert", look)
    convert_arrays(file, "mine", tmp_path / "data")
    assert seen == kept
    assert [path.name for path in (tmp_path / "data").iterdir() if path.name != ".mine.lock"] == ["mine"]


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: x.astype(np.float64),
        np.asfortranarray,
        lambda x: x.astype(">f4"),
        lambda x: np.ascontiguousarray(x),
    ],
    ids=["float64", "fortran", "big-endian", "plain"],
)
def test_memory_layout_and_type_make_no_difference(tmp_path, cast):
    def save(file, **members):
        np.savez(file, **{name: cast(array) for name, array in members.items()})

    store = convert_arrays(
        npz(tmp_path / "x.npz", save=save), "ntu60", tmp_path / "data", names=names_file(tmp_path, NAMES)
    )
    assert same_clips(store, {name: sgn(clip(name)) for name in NAMES})


# --- npy --------------------------------------------------------------------------------------------------------------


def test_raw_arrays_of_st_gcn_become_the_clips_they_were_made_of(tmp_path, capsys):
    store = convert_arrays(npy(tmp_path / "xsub", suffix="data"), "ntu60", tmp_path / "data")
    assert same_clips(store, {name: clip(name) for name in NAMES})
    assert (store.recipe, store.meta["source"]) == ("none", "stgcn")
    assert "ST-GCN/HCN npy: 12 train + 4 val clips, 60 classes, recipe none" in capsys.readouterr().out


@pytest.mark.parametrize("lengths", [True, False])
def test_repeated_frames_of_2s_agcn_are_cut(tmp_path, capsys, lengths):
    folder = npy(tmp_path / "xsub", lambda joints: relative(looped(joints)), lengths=lengths)
    store = convert_arrays(folder, "ntu60", tmp_path / "data")
    # The period of the second body alone would be told wrongly by its first body, which moves along.
    assert same_clips(store, {name: relative(clip(name)) for name in NAMES})
    assert (store.recipe, store.meta["source"]) == ("agcn", "agcn")
    assert ("true lengths from num_frame" if lengths else "lengths by period") in capsys.readouterr().out


def test_zeros_behind_clips_of_agcn_are_cut(tmp_path):
    folder = npy(tmp_path / "xsub", lambda joints: padded(relative(joints)))
    assert same_clips(
        convert_arrays(folder, "ntu60", tmp_path / "data"), {name: relative(clip(name)) for name in NAMES}
    )


def slow_period(joints):
    frames = joints.shape[1]
    for period in range(1, frames):
        if all((joints[:, t] == joints[:, t - period]).all() for t in range(period, frames)):
            return period
    return frames


def test_periods():
    rng = np.random.default_rng(0)
    for length in (1, 2, 5, 17, 29, 30):
        joints = rng.integers(0, 2, (1, length, 25, 3)).astype(np.float32)[:, np.arange(30) % length]
        assert agcn.true_length(joints) == slow_period(joints)
    body = rng.normal(size=(1, 30, 25, 3)).astype(np.float32)
    two = np.concatenate([body[:, np.arange(30) % 12], body[:, np.arange(30) % 7]])
    assert agcn.true_length(two - two[:1, :, ORIGIN : ORIGIN + 1]) == 12  # a second body that left after 7 frames
    assert agcn.true_length(body) == 30


def test_lengths_beyond_the_array_are_told(tmp_path):
    folder = npy(tmp_path / "xsub", suffix="data", lengths=True)
    np.save(folder / "val_num_frame.npy", [400] * len(TEST))
    store = convert_arrays(folder, "ntu60", tmp_path / "data")
    told = [line["message"] for line in store.report["notices"] if line["reason"] == "reader"]
    assert told == ["has 400 frames, of which the file holds 300"] * len(TEST)


def fifty(joints):
    """Every body relative to its own centre, 50 frames."""
    joints = joints[:, np.linspace(0, joints.shape[1] - 1, 50).astype(int)]
    return padded(joints - joints[:, :, CENTRE : CENTRE + 1], 50)


def test_fifty_frames_of_aimclr(tmp_path, capsys):
    folder = npy(tmp_path / "xview", fifty, suffix="position")
    for part, names in (("train", TRAIN), ("val", TEST)):
        np.save(folder / f"{part}_label.npy", np.array([[label(name)] for name in names]))
        np.save(folder / f"{part}_motion.npy", np.zeros((len(names), 3, 50, 25, 2), np.float32))
    store = convert_arrays(folder, "ntu60", tmp_path / "data")
    assert same_clips(store, {name: fifty(clip(name))[: len(clip(name))] for name in NAMES})
    assert (store.recipe, store.meta["source"]) == ("stgcn50", "aimclr")
    (folder / "train_label.pkl").unlink()
    (folder / "val_label.pkl").unlink()
    store = convert_arrays(folder, "nameless", tmp_path / "data")
    assert np.char.startswith(store.ids, "train/").sum() == len(TRAIN)
    assert "numbered" in capsys.readouterr().out
    store = convert_arrays(folder, "named", tmp_path / "data", names=names_file(tmp_path, NAMES))
    assert sorted(store.ids) == sorted(NAMES)


def test_one_array_is_imported_alone(tmp_path):
    folder = npy(tmp_path / "xsub", suffix="data")
    store = convert_arrays(folder / "val_data.npy", "ntu60", tmp_path / "data")
    assert sorted(store.ids) == sorted(TEST)
    (folder / "val_data.npy").rename(folder / "arms.npy")
    (folder / "val_label.pkl").rename(folder / "arms_label.pkl")
    store = convert_arrays(folder / "arms.npy", "other", tmp_path / "data")
    assert sorted(store.ids) == sorted(TEST)


def test_importing_again_leaves_the_store_and_other_labels_are_other_data(tmp_path, capsys):
    folder = npy(tmp_path / "xsub", suffix="data")
    for names in (TRAIN, TEST):
        part = "train" if names is TRAIN else "val"
        table = ([f"p{n}" for n in range(len(names))], [float(label(name)) for name in names])
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps(table))
    before = convert_arrays(folder, "mine", tmp_path / "data").meta
    assert convert_arrays(folder, "mine", tmp_path / "data").meta == before
    assert "already made from these files" in capsys.readouterr().out
    (folder / "val_label.pkl").write_bytes(pickle.dumps(([f"p{n}" for n in range(len(TEST))], [3] * len(TEST))))
    with pytest.raises(InputError, match="--overwrite true"):
        convert_arrays(folder, "mine", tmp_path / "data")
    after = convert_arrays(folder, "mine", tmp_path / "data", overwrite=True)
    assert set(after.index["label"][np.char.startswith(after.ids, "test/")]) == {3}


def test_a_damaged_store_tells_how_it_was_imported(tmp_path, capsys):
    store = convert_arrays(npy(tmp_path / "xsub", suffix="data"), "ntu60", tmp_path / "data")
    again = f"run `skelcl data import arrays --input <files> --name ntu60 --root {tmp_path / 'data'} --overwrite true`"
    with (store.path / "joints.npy").open("r+b") as stream:
        stream.seek(5000)
        stream.write(bytes(4))
    assert check("ntu60", tmp_path / "data") == 1
    assert f"joints.npy: the checksum differs from the one in meta.json: {again}" in capsys.readouterr().out
    (store.path / "joints.npy").unlink()
    with pytest.raises(InputError, match=re.escape(again)):
        SkeletonStore(store.path)


# --- what is refused --------------------------------------------------------------------------------------------------


def put(file, content):
    file.write_bytes(content)


def truncate(file, share=0.7):
    put(file, file.read_bytes()[: int(file.stat().st_size * share)])


def edit(file, change):
    np.save(file, change(np.load(file)))


def hot(row, value):
    y = one_hot(TRAIN)
    y[row] = value
    return y


ARCHIVES = {
    "truncated": (lambda f: truncate(npz(f)), "cannot be read as a zip archive"),
    "no labels": (lambda f: npz(f, y_train=None), r"has x_train, but no labels y_train; it holds .*x_test \(4, 300,"),
    "other archive": (lambda f: np.savez(f, keypoints=np.zeros((3, 4))), r"an archive of keypoints \(3, 4\) float64"),
    "width": (lambda f: npz(f, x_train=np.zeros((12, 300, 120), "f4")), r"\(12, 300, 120\) float32 instead of"),
    "axes": (lambda f: npz(f, x_train=np.zeros((12, 150), "f4")), r"\(12, 150\) float32 instead of"),
    "count": (lambda f: npz(f, y_train=one_hot(TRAIN)[1:]), "12 clips, but 11 labels"),
    "integers": (lambda f: npz(f, x_train=np.zeros((12, 300, 150), int)), "must be floating-point"),
    "objects": (lambda f: npz(f, x_train=np.empty((12, 300, 150), object)), "holds Python objects, not numbers"),
    "label objects": (lambda f: npz(f, y_train=np.empty((12, 60), object)), "holds Python objects, not numbers"),
    "not one": (lambda f: npz(f, y_train=hot(3, 0)), "row 3 is no one-hot vector: its sum is 0"),
    "two": (lambda f: npz(f, y_train=hot((3, slice(2)), 1)), "row 3 is no one-hot vector: its sum is"),
    "halves": (lambda f: npz(f, y_train=hot((5, slice(2)), 0.5)), "row 5 is no one-hot vector"),
    "not a number": (lambda f: npz(f, y_train=hot(7, np.nan)), "row 7 is no one-hot vector"),
    "classes": (lambda f: npz(f, y_test=one_hot(TEST, 61)), "the labels of its parts have 60 and 61 classes"),
    "text": (lambda f: put(f, b"not an array"), "a file that begins with b'not an array', which is no processed"),
    "empty": (lambda f: put(f, b""), "an empty file, which is no processed"),
    "other pickle": (lambda f: put(f, pickle.dumps({"ids": [1]})), "a pickle of a dict of 1 with the keys 'ids'"),
    "strange pickle": (lambda f: put(f, pickle.dumps([slice(3)])), "refused, for it names 'builtins.slice'"),
}  # fmt: skip


def refused(skelcl, capfd, message, *words):
    """One line on stderr, exit code 1, and no trace of a store."""
    with pytest.raises(SystemExit) as stop:
        skelcl("data", "import", "arrays", "--name", "mine", "--root", "data", *words)
    assert stop.value.code == 1
    (line,) = [
        line for line in capfd.readouterr().err.splitlines() if line and "it/s" not in line and "/s]" not in line
    ]
    assert re.search(message, line), line
    return line


@pytest.mark.parametrize("case", ARCHIVES)
def test_bad_archives_are_one_line(skelcl, capfd, tmp_path, case):
    make, message = ARCHIVES[case]
    make(tmp_path / "x.npz")
    refused(skelcl, capfd, message, "--input", "x.npz")
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


FOLDERS = {
    "truncated": (lambda f: truncate(f / "train_data.npy"), r"train_data.npy: truncated or damaged: \d+ bytes"),
    "axes": (lambda f: edit(f / "val_data.npy", lambda x: x.transpose(0, 2, 3, 1, 4)), r"\(4, 300, 25, 3, 2\) float32"),
    "joints": (lambda f: edit(f / "val_data.npy", lambda x: x[:, :, :, :18]), r"\(4, 3, 300, 18, 2\) float32 instead"),
    "labels missing": (lambda f: (f / "val_label.pkl").unlink(), "its labels are missing: val_label.pkl or"),
    "other labels": (lambda f: shutil.copy(f / "train_label.pkl", f / "val_label.pkl"), "12 labels for 4 clips"),
    "one list": (lambda f: put(f / "val_label.pkl", pickle.dumps([1, 2, 3])), "instead of a pair: names and labels"),
    "numbers": (lambda f: put(f / "val_label.pkl", pickle.dumps(([1] * 4, [1] * 4))), "must be names of clips"),
    "uneven": (lambda f: put(f / "val_label.pkl", pickle.dumps((TEST, [1] * 3))), "4 names for 3 labels"),
    "half": (lambda f: put(f / "val_label.pkl", pickle.dumps((TEST, [0, 0.5, 8, 8]))), "label 1 is 0.5, no class"),
    "negative": (lambda f: put(f / "val_label.pkl", pickle.dumps((TEST, [0, 0, 8, -1]))), "label 3 is -1, no class"),
    "words": (lambda f: put(f / "val_label.pkl", pickle.dumps((TEST, list("abcd")))), "labels must be a list of whole"),
    "wrong action": (lambda f: put(f / "val_label.pkl", pickle.dumps((TEST, [0, 0, 8, 9]))), "shows action A009"),
    "twice": (lambda f: put(f / "val_label.pkl", pickle.dumps((TEST[:1] * 4, [0] * 4))), "occurs twice"),
    "code": (lambda f: put(f / "val_label.pkl", b"cos\nsystem\n(S'touch owned'\ntR."), "os.system"),
    "lengths": (lambda f: np.save(f / "val_num_frame.npy", [1, 2, 3]), "3 lengths for 4 clips of val_data.npy"),
    "length 0": (lambda f: np.save(f / "val_num_frame.npy", [0, 2, 3, 4]), "clip 0 has no frame"),
    "contradiction": (lambda f: np.save(f / "val_label.npy", [0, 0, 8, 7]), "label 3 is 7, in val_label.pkl it is 8"),
    "two arrays": (lambda f: shutil.copy(f / "val_data.npy", f / "val_data_joint.npy"), "holds several val arrays"),
    "recipes": (lambda f: edit(f / "val_data.npy", lambda x: x - x[:, :, :, 1:2, :1]), "different recipes"),
    "bones": (lambda f: edit(f / "val_data.npy", lambda x: x - x[:, :, :, 20:21]), "as in the stream of bones"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_bad_folders_are_one_line(skelcl, capfd, tmp_path, case):
    make, message = FOLDERS[case]
    npy(tmp_path / "xsub", suffix="data")
    make(tmp_path / "xsub")
    refused(skelcl, capfd, message, "--input", "xsub")
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())
    assert not (tmp_path / "owned").exists()


def test_streams_folders_of_folders_and_absent_places_are_refused(skelcl, capfd, tmp_path):
    npy(tmp_path / "all" / "xsub", suffix="data")
    npy(tmp_path / "all" / "xview", suffix="data")
    refused(skelcl, capfd, "holds the data sets xsub, xview: pass one", "--input", "all")
    shutil.copy("all/xsub/val_data.npy", "all/xsub/val_data_bone.npy")
    refused(skelcl, capfd, "is the bone stream, which is derived", "--input", "all/xsub/val_data_bone.npy")
    refused(skelcl, capfd, "nowhere does not exist", "--input", "nowhere")
    (tmp_path / "npz").mkdir()
    npz(tmp_path / "npz" / "a.npz")
    shutil.copy("npz/a.npz", "npz/b.npz")
    refused(skelcl, capfd, r"several data sets \(a.npz, b.npz\): pass one", "--input", "npz")
    (tmp_path / "empty").mkdir()
    refused(skelcl, capfd, "a folder with 0 files, which is no processed", "--input", "empty")
    for name, command in {
        "S001C001P001R001A011.skeleton": "data prepare ntu60 --raw",
        "a01_s01_e00_v01.json": "data prepare nw-ucla --raw",
        "0002-L.txt": "data prepare pku-mmd --part 1 --raw",
        "landmarks.json": "data import poses --format FORMAT --input",
    }.items():
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw" / name).write_text("{}")
        told = f"{name}, .*: skelcl {command} "
        refused(skelcl, capfd, told + "raw", "--input", "raw")
        refused(skelcl, capfd, told + f"raw/{name}", "--input", f"raw/{name}")
        shutil.rmtree("raw")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMES[1:], "15 names for 16 clips"),
        (NAMES[1:] + NAMES[:1], "shows action A"),
        (NAMES[:-1] + NAMES[:1], "occurs twice|shows action"),
        ([], "holds no names"),
        (["a b"] * 16, "the name 'a b' occurs twice"),
        (["a\tb", *"cdefghijklmnopq"], r"'a\\tb' is no name of a clip"),
        (["x"] * 16, "the name 'x' occurs twice"),
    ],
)
def test_names_that_do_not_belong_are_one_line(skelcl, capfd, tmp_path, names, message):
    npz(tmp_path / "x.npz")
    refused(skelcl, capfd, message, "--input", "x.npz", "--names", names_file(tmp_path, names))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ntu60", "16 of 16 clips have no name of this data set, for example 'train/000001'"),
        ("pku-mmd-1", "choose another --name and the data module Custom"),
        ("a/b", "letters, digits"),
    ],
)
def test_a_store_is_not_called_what_it_is_not(skelcl, capfd, tmp_path, name, message):
    npz(tmp_path / "x.npz")
    refused(skelcl, capfd, message, "--input", "x.npz", "--name", name)


def test_ntu120_clips_are_no_ntu60(tmp_path):
    later = [name.replace("S001", "S018").replace("A001", "A061").replace("A009", "A069") for name in NAMES]
    folder = npy(tmp_path / "xsub", suffix="data")
    for part, names in (("train", later[: len(TRAIN)]), ("val", later[len(TRAIN) :])):
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, [label(name) for name in names])))
    with pytest.raises(InputError, match="choose another --name"):
        convert_arrays(folder, "ntu60", tmp_path / "data")
    assert len(convert_arrays(folder, "ntu120", tmp_path / "data").meta["classes"]) == 120


def test_a_clip_that_shows_nobody_is_listed(tmp_path):
    def change(joints):
        return np.zeros((2, 300, 25, 3), np.float32) if joints.shape[1] == 20 else padded(joints)

    folder = npy(tmp_path / "xsub", change, suffix="data")
    store = convert_arrays(folder, "ntu60", tmp_path / "data", max_failed=0.1)
    assert [line["id"] for line in store.report["notices"] if line["reason"] == "no_skeleton"] == [TRAIN[0]]
    assert len(store) == len(NAMES) - 1


@pytest.mark.timeout(20)
def test_labels_that_hold_themselves_are_none():
    itself, pairs = [], ()
    itself.append(itself)
    for _ in range(60):
        pairs = (pairs, pairs)
    for labels in (itself, [pairs], pairs, [np.zeros(2)], None, 3, "12", {1: 2}, [[1], [2]], [2**80]):
        with pytest.raises(InputError, match="x: labels must be a list of whole numbers"):
            whole_labels(labels, "x")


def test_labels_and_classes():
    assert whole_labels([1.0, 2.0], "x").tolist() == whole_labels((1, 2), "x").tolist() == [1, 2]
    assert class_names((), np.array([0, 2])) == ("0", "1", "2")
    with pytest.raises(InputError, match="a label is 5, but there are 5 classes"):
        class_names((), np.array([5]), 5)


def test_a_member_that_lies_elsewhere_is_damage(tmp_path):
    file = npz(tmp_path / "x.npz")
    with zipfile.ZipFile(file) as archive:
        offset = archive.getinfo("x_train.npy").header_offset
    data = bytearray(file.read_bytes())
    data[offset : offset + 4] = b"????"
    put(file, bytes(data))
    with pytest.raises(InputError, match=r"x\.npz: x_train: cannot be read"):
        open_arrays(file, tmp_path)
