"""Bandai-Namco's files in miniature: names, labels, splits, and what the reader makes of them."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skelcl.commands.data import COMMANDS
from skelcl.commands.parsing import call
from skelcl.data import BandaiNamco, SkeletonStore, StoreError
from skelcl.data.formats.bandai_namco import CONTENTS, GROUPS, HELD_OUT, STYLES, prepare
from skelcl.errors import OptionError
from skelcl.skeleton import BANDAI21
from skelcl.transforms import Normalize, Truncate

REAL = os.environ.get("SKELCL_BANDAI_NAMCO", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bandai")


@pytest.fixture
def archive(captured, folder):
    """Every content of part 2 in every style once, a second walk in each, three clips of part 1; zipped as it comes."""
    file = folder / "bandai-2.zip"
    if file.exists():
        return file
    top = "Bandai-Namco-Research-Motiondataset-2"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(f"{top}/cfg/content_label.txt", "\n".join(f"dataset-2_{one}" for one in CONTENTS[2]))
        made.writestr(f"{top}/README.md", "…")
        for c, content in enumerate(CONTENTS[2]):
            for s, style in enumerate(STYLES[2]):
                for number in (1, 2) if content == "walk" else (1,):
                    name = f"{top}/data/dataset-2_{content}_{style}_{number:03d}"
                    made.writestr(f"{name}.bvh", captured(2, seed=100 * c + 10 * s + number).text())
                    made.writestr(f"{name}.json", f'{{"content": {c}, "style": {s}}}')
        made.writestr(f"{top}/data/dataset-1_walk-back_not-confident_001.bvh", captured(2, root=(200, 0, 0)).text())
    return file


@pytest.fixture
def root(archive, folder):
    prepare([archive], folder / "data")
    return folder / "data"


def test_labels_and_places_of_every_clip(captured, root, capsys):
    store = SkeletonStore(root / "bandai-namco-2")
    assert len(store) == 77
    assert (store.skeleton, store.meta["units"], store.meta["fps"]) == (BANDAI21, "m", 30.0)
    assert store.meta["classes"] == list(CONTENTS[2])
    for n in (0, 40, 76):
        _, content, style, number = store.ids[n].split("_")
        c, s = CONTENTS[2].index(content), STYLES[2].index(style)
        assert [store.index[name][n] for name in ("label", "setup", "replication")] == [c, s, int(number)]
        assert style in GROUPS[2][store.index["subject"][n] - 1]
        expected = captured(2, seed=100 * c + 10 * s + int(number)).places()[:, 1:] / 100
        np.testing.assert_allclose(store.recording(n)[0], expected, atol=1e-5)
    assert [notice["reason"] for notice in store.report["notices"]] == []


def test_the_other_part_has_a_store_of_its_own_and_its_root_travels(captured, archive, folder, capsys):
    call("skelcl data", COMMANDS, f"prepare bandai-namco --part 1 --raw {archive} --root {folder / 'one'}".split())
    store = SkeletonStore(folder / "one" / "bandai-namco-1")
    assert store.ids.tolist() == ["dataset-1_walk-back_not-confident_001"]
    assert store.meta["classes"][store.index["label"][0]] == "walk-back"
    np.testing.assert_allclose(store.recording(0)[0], captured(2, root=(200, 0, 0)).places()[:, 1:] / 100, atol=1e-5)
    assert "not the complete published data set, 1 of 175 clips" in capsys.readouterr().out
    (folder / "one" / "bandai-namco-1" / "index.npz").unlink()
    with pytest.raises(StoreError, match=r"run `skelcl data prepare bandai-namco --part 1 --raw <files>"):
        SkeletonStore(folder / "one" / "bandai-namco-1")


def test_folders_hold_the_same_as_archives(archive, root, tmp_path):
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "raw")
    (tmp_path / "raw" / "dance.bvh").write_text("no name of the data set")
    store = prepare([tmp_path / "raw"], tmp_path / "data")
    assert store.digest == SkeletonStore(root / "bandai-namco-2").digest
    assert "1 files of other names were ignored" in store.report["notices"][0]["message"]


@pytest.mark.parametrize(
    ("label", "held_out"),
    [("content", None), ("content", GROUPS[2][0]), ("content", ("normal",)), ("style", None), ("style", ("run",))],
)
def test_what_is_held_out_is_the_test_part(root, label, held_out):
    names = HELD_OUT[2, label] if held_out is None else held_out
    data = BandaiNamco(root, label=label, held_out=held_out and list(held_out))
    place = 2 if label == "content" else 1  # of the word in the name that is held out
    assert {data.ids[n].split("_")[place] for n in data.parts["test"]} == set(names)
    assert not {data.ids[n].split("_")[place] for n in data.parts["train"]} & set(names)
    assert data.class_names == list((CONTENTS if label == "content" else STYLES)[2])
    for n in (3, 33):
        assert data.class_names[data.store.index["label"][n]] == data.ids[n].split("_")[3 - place]
    assert BandaiNamco.published({"label": label}).classes == tuple(data.class_names)


def test_a_name_that_is_not_there_is_one_line(root):
    with pytest.raises(OptionError, match="part 2 has no 'sad' to hold out; there are active, elderly"):
        BandaiNamco(root, held_out=["sad"])


@pytest.mark.parametrize("part", [1, 2])
def test_the_rules_name_what_there_is(part):
    styles = [style for group in GROUPS[part] for style in group]
    assert len(styles) == len(set(styles))
    assert set(STYLES[part]) - set(styles) == ({"normal"} if part == 1 else set())
    assert set(HELD_OUT[part, "content"]) < set(STYLES[part])
    assert set(HELD_OUT[part, "style"]) < set(CONTENTS[part])


def test_turns_that_contradict_their_name_are_told(captured, tmp_path):
    for name in ("left_normal_031", "left_normal_030", "right_normal_004"):
        (tmp_path / f"dataset-2_walk-turn-{name}.bvh").write_text(captured(2, seed=int(name[-3:])).text())
    store = prepare([tmp_path], tmp_path / "data")
    told = [notice["id"] for notice in store.report["notices"] if notice["reason"] == "turn"]
    assert told == ["dataset-2_walk-turn-left_normal_031", "dataset-2_walk-turn-right_normal_004"]


def test_a_recipe_that_turns_bodies_hides_where_they_face(captured, tmp_path):
    """In the first frame that alone tells one turn from the other."""
    for number, angle in ((1, 10), (2, 94)):
        body = captured(2, bend=0)
        body.values[:, 51:54] = [[10, 20, 30], [50, 40, -20]]  # the left elbow
        body.values[:, 5] = angle  # Yrotation of the root
        (tmp_path / f"dataset-2_run_normal_{number:03d}.bvh").write_text(body.text())
    clips = prepare([tmp_path], tmp_path / "data").clips([0, 1])
    joints = clips.joints.reshape(2, -1)
    assert (joints[0] - joints[1]).abs().max() > 0.2
    views = Normalize("agcn")(Truncate(2)(clips), clips)
    np.testing.assert_allclose(views[0], views[1], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dataset-2_hop_normal_001", lambda text: text, "part 2 has no content 'hop' in style 'normal'"),
        ("dataset-2_run_normal_001", lambda text: text.replace("Toes_L", "Tail"), "are not those of the data set"),
        ("dataset-2_run_normal_001", lambda text: text[:-30], "numbers for 132 channels, line 137"),
    ],
)
def test_damaged_files(captured, tmp_path, name, change, message):
    (tmp_path / f"{name}.bvh").write_text(change(captured(3).text()))
    with pytest.raises(StoreError, match=message):
        prepare([tmp_path], tmp_path / "data", strict=True)


def test_nothing_to_prepare(tmp_path):
    with pytest.raises(StoreError, match=r"no files of part 2 \(dataset-2_walk_normal_001\.bvh"):
        prepare([tmp_path], tmp_path / "data")
    with pytest.raises(StoreError, match="--raw takes the archives"):
        prepare([tmp_path / "none.zip"], tmp_path / "data")
    with pytest.raises(StoreError, match="--raw is missing: skelcl data prepare bandai-namco --part 2"):
        call("skelcl data", COMMANDS, ["prepare", "bandai-namco"])


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="SKELCL_BANDAI_NAMCO names no folder of Bandai-Namco's archives")
def test_the_real_first_part(tmp_path):
    store = prepare([Path(REAL) / "bandai-1.zip"], tmp_path, 1)
    assert (len(store), int(store.index["n_frames"].sum())) == (174, 31_914)
    assert (store.index["n_frames"].min(), store.index["n_frames"].max()) == (20, 1_901)
    assert store.report["summary"] == []
