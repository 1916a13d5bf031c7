"""PKU-MMD: videos cut into labelled clips, and the files of a data set found."""

import random
import shutil
import time

import numpy as np
import pytest

from skelcl.data import StoreError
from skelcl.data.formats import pku_release
from skelcl.data.formats.pku_mmd import find, frames_of, prepare, read
from skelcl.data.formats.pku_text import write_skeleton, write_split
from skelcl.data.recording import ReadError, Recording
from skelcl.data.schema import Flag

ABSENT = (12, 14, 16, 18, 21, 24, 26, 27, 29, 38)  # labels that part 2 does not have


def coordinates(frames, bodies=2, seed=0):
    """Two bodies with six decimals, so that a file holds them exactly."""
    joints = np.random.default_rng(seed).normal(size=(2, frames, 25, 3)) * 0.3 + [0, 0.2, 2.7]
    joints[bodies:] = 0
    return np.array([float(f"{value:.6f}") for value in joints.ravel()], np.float32).reshape(joints.shape)


def video(folder, name="0002-L", joints=None, labels="8,0,3,1\n", suffixes=(".txt", ".txt")):
    """One pair of files; (skeleton, label)."""
    skeleton, label = (folder / kind / f"{name}{suffix}" for kind, suffix in zip("sl", suffixes, strict=True))
    for file in (skeleton, label):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_skeleton(skeleton, coordinates(10) if joints is None else joints)
    label.write_text(labels)
    return skeleton, label


def clips(where, part=1, **options):
    """Recordings by row and notices by (row or video, reason)."""
    items = list(read(where, part, **options))
    recordings = {item.id: item for item in items if isinstance(item, Recording)}
    return recordings, {(item["id"], item["reason"]): item for item in items if not isinstance(item, Recording)}


# --- cutting


@pytest.mark.parametrize(
    ("start", "end", "half_open", "one_based", "zero_based"),
    [
        (2, 5, [2, 3, 4], [1, 2, 3, 4], [2, 3, 4, 5]),
        (0, 2, [0, 1], [0, 1], [0, 1, 2]),  # the one-based reading of a start of 0 is 1
        (1, 2, [1], [0, 1], [1, 2]),
        (4, 4, [], [3], [4]),
        (0, 0, [], [], [0]),
        (7, 10, [7, 8, 9], [6, 7, 8, 9], [7, 8, 9]),
        (7, 9, [7, 8], [6, 7, 8], [7, 8, 9]),
        (5, 2, [2, 3, 4], [1, 2, 3, 4], [2, 3, 4, 5]),  # swapped
        (8, 99, [8, 9], [7, 8, 9], [8, 9]),  # clamped
        (-3, 2, [0, 1], [0, 1], [0, 1, 2]),
        (10, 20, [], [9], []),
        (11, 20, [], [], []),
    ],
)
def test_conventions_by_hand(tmp_path, start, end, half_open, one_based, zero_based):
    joints = coordinates(10)
    where = video(tmp_path, joints=joints, labels=f"8,{start},{end},1\n")
    for cut, rows in zip(
        ("half_open", "one_based_inclusive", "zero_based_inclusive"), (half_open, one_based, zero_based), strict=True
    ):
        recordings, notices = clips(where, cut=cut)
        assert ((("0002-L_000", "swapped")) in notices) == (start > end)
        if not rows:
            assert not recordings
            assert notices["0002-L_000", "empty_interval"]["outcome"] == "skipped"
            assert notices["0002-L_000", "empty_interval"]["line"] == 1
            continue
        (clip,) = recordings.values()
        np.testing.assert_array_equal(clip.joints, joints[:, rows])
        assert (clip.start, clip.end) == (rows[0], rows[-1] + 1)
        outside = start < 0 or end > {"half_open": 10, "one_based_inclusive": 10, "zero_based_inclusive": 9}[cut]
        assert (("0002-L_000", "clamped") in notices) == outside
    assert frames_of(3, 5, "half_open") == (3, 5)


def test_a_video_becomes_a_recording_per_row(tmp_path):
    joints = coordinates(10)
    where = video(tmp_path, "A03N07-M", joints, "51,6,9,2\n\n13,0,3,1\n1,2,8,1\n")  # unsorted, overlapping
    recordings, notices = clips(where, part=2)
    assert not notices
    assert list(recordings) == ["A03N07-M_000", "A03N07-M_001", "A03N07-M_002"]
    assert [clip.label_original for clip in recordings.values()] == [50, 12, 0]
    assert [clip.label for clip in recordings.values()] == [40, 11, 0]  # 13 follows 11 in part 2
    for clip, (start, end) in zip(recordings.values(), ((6, 9), (0, 3), (2, 8)), strict=True):
        np.testing.assert_array_equal(clip.joints, joints[:, start:end])
        assert (clip.subject, clip.camera, clip.setup, clip.video) == (7, 2, 3, "A03N07-M")
        assert (clip.start, clip.end) == (start, end)


def test_dense_labels_skip_what_part_2_lacks(tmp_path):
    present = [label for label in range(1, 52) if label not in ABSENT]
    where = video(tmp_path, "A01N01-L", labels="".join(f"{label},0,3,1\n" for label in present))
    recordings, _ = clips(where, part=2)
    assert [clip.label for clip in recordings.values()] == list(range(41))
    assert [clip.label_original for clip in recordings.values()] == [label - 1 for label in present]
    where = video(tmp_path, labels="".join(f"{label},0,3,1\n" for label in range(1, 52)))
    assert all(clip.label == clip.label_original for clip in clips(where)[0].values())


def test_bodies_that_are_never_seen_are_absent(tmp_path):
    joints = coordinates(12)
    joints[1, :3] = 0  # rows 0: body 1 alone
    joints[0, 3:6] = 0  # row 1: body 2 alone
    joints[:, 6:9] = 0  # row 2: nobody
    joints[1, 10] = 0  # row 3: both, the second one lost for a frame
    where = video(tmp_path, joints=joints, labels="1,0,3,1\n2,3,6,1\n3,6,9,1\n4,9,12,1\n")
    recordings, notices = clips(where)
    assert list(recordings) == ["0002-L_000", "0002-L_001", "0002-L_003"]
    np.testing.assert_array_equal(recordings["0002-L_000"].joints, joints[:1, :3])
    np.testing.assert_array_equal(recordings["0002-L_001"].joints, joints[1:, 3:6])
    np.testing.assert_array_equal(recordings["0002-L_003"].joints, joints[:, 9:])
    assert {key: notice["outcome"] for key, notice in notices.items()} == {
        ("0002-L_001", "body_moved"): "repaired",
        ("0002-L_002", "no_skeleton"): "skipped",
    }
    store = prepare([tmp_path], tmp_path / "stores", max_failed=0.0)  # nobody in an interval is no failure
    assert store.index["n_bodies"].tolist() == [1, 1, 2]
    assert store.index["flags"].tolist() == [0, 0, Flag.GAP]
    assert np.isnan(store.recording(2)[1, 1]).all()
    summary = {line["reason"]: (line["outcome"], line["count"]) for line in store.report["summary"]}
    assert summary == {
        "body_moved": ("repaired", 1),
        "missing_frame": ("warning", 1),
        "no_skeleton": ("skipped", 1),
    }


def test_bodies_by_energy(tmp_path):
    joints = coordinates(10)
    joints[1] *= 2
    joints[1, 4] = 0  # an empty frame must not count as motion, nor a missing joint
    joints[0, 5, 7] = np.nan
    joints = np.nan_to_num(joints)
    spread = [body[(body != 0).any(-1)].astype(float).std(0).sum() for body in joints]
    assert spread[1] > spread[0]
    where = video(tmp_path, joints=joints, labels="8,0,10,1\n")
    np.testing.assert_array_equal(clips(where, bodies="energy")[0]["0002-L_000"].joints, joints[::-1])
    np.testing.assert_array_equal(clips(where)[0]["0002-L_000"].joints, joints)
    where = video(tmp_path, joints=joints[::-1], labels="8,0,10,1\n")
    np.testing.assert_array_equal(clips(where, bodies="energy")[0]["0002-L_000"].joints, joints[::-1])


def test_clips_keep_their_true_length(tmp_path):
    joints = coordinates(700, 1)
    video(tmp_path, joints=joints, labels="8,0,700,1\n8,5,6,1\n")
    store = prepare([tmp_path], tmp_path / "stores")
    assert store.index["n_frames"].tolist() == [700, 1]
    np.testing.assert_array_equal(store.recording(0), joints[:1])


def test_one_clip_that_cannot_be_used_leaves_the_others(tmp_path):
    joints = coordinates(10, 1)
    joints[0, :4, 6] = 0
    video(tmp_path, joints=joints, labels="8,0,4,1\n8,4,10,1\n")
    store = prepare([tmp_path], tmp_path / "stores", max_failed=1.0)
    assert store.ids.tolist() == ["0002-L_001"]
    (notice,) = store.report["notices"]
    assert (notice["id"], notice["outcome"], notice["reason"]) == ("0002-L_000", "failed", "joint_never_seen")


@pytest.mark.parametrize("spelling", ["nan", "1.#QNAN", "1e39"])
def test_a_joint_that_is_no_number_is_missing_in_the_store(tmp_path, spelling):
    joints = coordinates(3)
    skeleton, _ = video(tmp_path, joints=joints)
    rows = [line.split() for line in skeleton.read_text().splitlines()]
    rows[1][7] = spelling  # body 1, joint 2, y
    skeleton.write_text("\n".join(" ".join(row) for row in rows))
    store = prepare([tmp_path], tmp_path / "stores")
    assert store.index["flags"][0] == Flag.REPAIRED
    loaded = store.clips([0], 2).joints.numpy()
    np.testing.assert_allclose(loaded[1, 2], (joints[0, 0, 2] + joints[0, 2, 2]) / 2, rtol=1e-6)


def test_a_last_row_that_is_cut_off_is_left_out_with_a_warning(tmp_path):
    where = video(tmp_path, joints=coordinates(4))
    where[0].write_text(where[0].read_text()[:-600])
    recordings, notices = clips(where)
    np.testing.assert_array_equal(recordings["0002-L_000"].joints, coordinates(4)[:, :3])
    assert notices["0002-L", "truncated_row"]["outcome"] == "warning"
    assert notices["0002-L", "truncated_row"]["line"] == 4


# --- finding


def reasons(notices):
    return sorted((notice["id"], notice["outcome"], notice["reason"]) for notice in notices)


@pytest.mark.parametrize(
    "suffixes", [(".txt", ".txt"), (".skeleton", ".label"), (".txt", ".label"), (".skeleton", ".txt")]
)
def test_the_halves_of_a_pair_are_told_apart_by_content_or_suffix(tmp_path, suffixes):
    for name in ("0002-L", "0003-M"):
        video(tmp_path / "deep" / "er", name, suffixes=suffixes)
    sources, notices, size = find([tmp_path], 1)
    assert [source.name for source in sources] == ["0002-L", "0003-M"]
    for source in sources:
        assert [path.parent.name for path in source.where] == ["s", "l"]
    assert not notices
    assert size == sum(source.where[0].stat().st_size for source in sources)


def test_both_parts_may_lie_together(tmp_path):
    video(tmp_path, "0002-L")
    video(tmp_path, "A01N01-L")
    for part, name in ((1, "0002-L"), (2, "A01N01-L")):
        sources, notices, _ = find([tmp_path], part)
        assert [source.name for source in sources] == [name]
        assert reasons(notices) == [("", "skipped", "other_name")]
        assert "2 files" in notices[0]["message"]


def test_halves_copies_and_other_files_are_reported(tmp_path):
    where = video(tmp_path / "a", "0002-L")
    video(tmp_path / "a", "0003-L")[0].unlink()
    video(tmp_path / "a", "0004-L")[1].unlink()
    shutil.copytree(where[1].parent, tmp_path / "b")
    (tmp_path / "a" / "0002-L.avi").write_bytes(b"?")
    (tmp_path / "a" / "._0002-L.txt").write_bytes(b"?")
    write_split(tmp_path / "a" / "cross-subject.txt", ["0003-L", "0003-M"], ["0291-R"])
    write_split(tmp_path / "a" / "cross_view_v2.txt", ["A01N01-M"], ["A01N01-L"])
    store = prepare([tmp_path / "a", tmp_path / "b"], tmp_path / "stores")
    assert store.ids.tolist() == ["0002-L_000"]
    assert reasons(store.report["notices"]) == [
        ("", "skipped", "other_name"),
        ("0002-L", "skipped", "copy"),
        ("0003-L", "skipped", "copy"),
        ("0003-L", "skipped", "no_skeleton_file"),
        ("0004-L", "skipped", "no_label_file"),
    ]


def test_a_split_file_that_contradicts_the_rules_is_reported(tmp_path):
    video(tmp_path)
    write_split(tmp_path / "cross-subject.txt", ["0003-L"], ["0002-L", "0291-R"])  # 0002-L is a training video
    (tmp_path / "cross-view.txt").write_bytes(b"hello")
    _, notices, _ = find([tmp_path], 1)
    assert reasons(notices) == [("", "warning", "split_file")] * 2
    assert "1 videos, for example 0002-L" in notices[0]["message"]
    assert "expected the heading" in notices[1]["message"]


def test_two_files_of_one_name_must_be_identical(tmp_path):
    video(tmp_path / "a")
    video(tmp_path / "b", labels="9,0,3,1\n")
    with pytest.raises(StoreError, match="0002-L occurs twice with different content") as caught:
        find([tmp_path / "a", tmp_path / "b"], 1)
    assert str(tmp_path / "a") in str(caught.value)
    assert str(tmp_path / "b") in str(caught.value)


@pytest.mark.parametrize("kind", ["skeleton", "label", "both"])
@pytest.mark.parametrize("data", [b"", b" \n\n"])
def test_an_empty_file_is_a_failure_of_its_video(tmp_path, kind, data):
    video(tmp_path, "0003-L")
    for half, path in zip(("skeleton", "label"), video(tmp_path), strict=True):
        if kind in (half, "both"):
            path.write_bytes(data)
    store = prepare([tmp_path], tmp_path / "stores", max_failed=0.5)
    assert store.ids.tolist() == ["0003-L_000"]
    failed = [notice for notice in store.report["notices"] if notice["outcome"] == "failed"]
    assert [(notice["id"], notice["reason"]) for notice in failed] == [("0002-L", "empty")]
    with pytest.raises(StoreError, match=r"1 of 2 files could not be used.*empty"):
        prepare([tmp_path], tmp_path / "others")
    with pytest.raises(StoreError, match="empty"):
        prepare([tmp_path], tmp_path / "strict", max_failed=0.5, strict=True)


def test_what_is_no_raw_data_is_refused_in_one_line(tmp_path):
    video(tmp_path / "two", "A01N01-L")
    video(tmp_path / "half")[1].unlink()
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "Skeleton.7z").write_bytes(b"7z")
    (tmp_path / "none").mkdir()
    for name, message in {
        "gone": "does not exist",
        "two": "pass --part 2",
        "half": "only halves of pairs",
        "packed": r"unpack .*Skeleton\.7z first",
        "none": "name the folders",
    }.items():
        with pytest.raises(StoreError, match=message) as caught:
            prepare([tmp_path / name], tmp_path / "stores")
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "stores").exists()


def test_a_complete_copy_is_not_warned_about_and_unknown_videos_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pku_release, "videos", lambda part: ["0002-L", "0291-M"])
    for name in ("0002-L", "0291-M"):
        video(tmp_path, name)
    prepare([tmp_path], tmp_path / "a")
    assert "warning" not in capsys.readouterr().out
    video(tmp_path, "0999-R")
    prepare([tmp_path], tmp_path / "b")
    assert "warning: 1 videos are not part of the data set, for example 0999-R" in capsys.readouterr().out


# --- garbage


def mutated(data, rng):
    """A few random damages of the kinds that disks, editors and people do."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 9, 200])
        kind = rng.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(length))
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at:at] = rng.choice(
                [b"\n", b" ", b",", b"-", b"_", b"nan", b"1e999", b"\x00", b"9" * 400, b"\r", b"."]
            )
        elif at < len(data):
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def test_damaged_files_give_clips_of_the_right_shape_or_one_clean_error(tmp_path):
    rng = random.Random(0)
    skeleton, label = video(tmp_path, joints=coordinates(6), labels="8,0,3,1\n51,2,6,2\n13,1,5,1\n")
    whole = skeleton.read_bytes(), label.read_bytes()
    outcomes = {"clips": 0, "errors": 0}
    stop = time.monotonic() + 3
    while time.monotonic() < stop and sum(outcomes.values()) < 1500:
        which = rng.randrange(3)
        skeleton.write_bytes(mutated(whole[0], rng) if which != 1 else whole[0])
        label.write_bytes(mutated(whole[1], rng) if which != 0 else whole[1])
        try:
            items, lines = list(read((skeleton, label), 1)), [""]
        except ReadError as error:
            items, lines = [], str(error).splitlines()
        assert len(lines) == 1
        outcomes["clips" if items else "errors"] += 1
        for item in items:
            if isinstance(item, Recording):
                assert item.joints.dtype == np.float32
                assert item.joints.shape[1:] == (item.end - item.start, 25, 3)
                assert 1 <= item.joints.shape[0] <= 2
                assert 0 <= item.label < 51
                assert 0 <= item.start < item.end
    assert min(outcomes.values()) > 20
