"""Stores that are read in another layout and at another rate."""

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from skelcl.data import Custom, SkeletonDataModule, SkeletonStore, StoreError, Synthetic
from skelcl.data.adapted import AdaptedStore, open_store
from skelcl.data.frame_rate import frame_step, resample
from skelcl.errors import InputError
from skelcl.skeleton import COCO17, H36M17, KINECT20, LAYOUTS, MEDIAPIPE33, NTU25

COMMON = ["shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
LIMBS = [f"{side} {joint}" for joint in COMMON for side in ("left", "right")]


@pytest.fixture
def people(tmp_path):
    """Writes clips of one or two random people, some joints and some frames unseen, below ``in``."""

    def write(layout, clips=12, holes=0.05, seed=0, whole_frames=True):
        random = np.random.default_rng(seed)
        for n in range(clips):
            folder = tmp_path / "in" / f"class {n % 3}"
            folder.mkdir(exist_ok=True)
            joints = random.normal(size=(1 + n % 2, 9 + n, layout.num_joints, 3)).astype(np.float32)
            if n % 4:
                joints[random.random(joints.shape[:3]) < holes] = np.nan
            if n % 3 == 0 and whole_frames:
                joints[0, : 1 + n % 2] = np.nan
                joints[-1, 5] = np.nan
            np.save(folder / f"{n}.npy", joints)

    return write


def same(found, expected):
    """Whether two batches of clips agree in all that a view asks."""
    assert (found.skeleton, found.num_persons, found.recipe) == (
        expected.skeleton,
        expected.num_persons,
        expected.recipe,
    )
    for name in ("joints", "offsets", "frames", "bodies", "first", "label", "index"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0, equal_nan=True)
    assert found.gaps == bool(found.joints.isnan().any())


MAPS = [
    ("mediapipe33", "ntu25"), ("mediapipe33", "kinect20"), ("mediapipe33", "coco17"), ("coco17", "h36m17"),
    ("openpose25", "halpe26"), ("ntu25", "kinect20"), ("openpose18", "h36m17"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), MAPS)
@pytest.mark.parametrize("persons", [1, 2])
def test_clips_are_those_of_a_store_that_was_mapped_when_it_was_imported(people, imported, source, target, persons):
    people(LAYOUTS[source])
    plain = imported("npy", "plain", layout=source, fps=25.0)
    mapped = imported("npy", "mapped", layout=source, to=target)
    assert (plain.index["flags"] > 0).sum() > 6
    adapted = AdaptedStore(plain.path, layout=target)
    assert adapted.skeleton is LAYOUTS[target]
    same(adapted.preload(persons), mapped.preload(persons))
    some = np.array([7, 2, 2, 9])
    same(adapted.clips(some, persons), mapped.clips(some, persons))
    np.testing.assert_array_equal(adapted.recording(4).shape, mapped.recording(4).shape)


def test_frames_that_show_too_little_of_the_layout_show_nobody(people, imported, tmp_path):
    people(MEDIAPIPE33, clips=2, whole_frames=False)
    joints = np.load(tmp_path / "in" / "class 0" / "0.npy")
    legs = [place for place, name in enumerate(MEDIAPIPE33.joints) if place > 10]
    joints[0, :3, legs[::2]] = np.nan  # 11 of 33 joints: somebody there, but 17 of 25 of NTU's joints cannot be made
    np.save(tmp_path / "in" / "class 0" / "0.npy", joints)
    plain = imported("npy", "plain", layout="mediapipe33")
    mapped = imported("npy", "mapped", layout="mediapipe33", to="ntu25")
    found = AdaptedStore(plain.path, layout="ntu25").preload()
    assert mapped.index["first"].tolist() == [3, 0]
    assert plain.index["first"].tolist() == [0, 0]
    assert found.gaps
    same(found, mapped.preload())


def test_a_body_that_no_import_would_keep_is_filled_in_and_then_mapped(people, imported, tmp_path):
    people(COCO17, clips=3, whole_frames=False)
    file = tmp_path / "in" / "class 0" / "0.npy"
    joints = np.load(file)
    hips = [COCO17.joints.index(f"{side} hip") for side in ("left", "right")]
    joints[0, ::2, hips[0]] = joints[0, 1::2, hips[1]] = np.nan  # never both in one frame
    np.save(file, joints)
    with pytest.raises(StoreError, match="joints 'pelvis', 'spine' are missing in every frame"):
        imported("npy", "mapped", layout="coco17", to="h36m17")
    plain = imported("npy", "plain", layout="coco17")
    found = AdaptedStore(plain.path, layout="h36m17").clips([0])
    expected = plain.clips([0]).joints[:, hips].mean(1)
    torch.testing.assert_close(found.joints[:, H36M17.joints.index("pelvis")], expected)
    assert not found.gaps


def test_a_store_that_was_mapped_when_it_was_imported_is_mapped_on(people, imported):
    people(MEDIAPIPE33, whole_frames=False)
    once = imported("npy", "once", layout="mediapipe33", to="ntu25")
    whole = imported("npy", "whole", layout="mediapipe33", to="kinect20")
    found, expected = AdaptedStore(once.path, layout="kinect20").preload(2), whole.preload(2)
    torch.testing.assert_close(found.joints, expected.joints, rtol=0, atol=1e-6, equal_nan=True)


def test_clips_are_mapped_before_they_are_resampled(people, imported):
    people(MEDIAPIPE33)
    plain = imported("npy", "plain", layout="mediapipe33", fps=25.0)
    mapped = imported("npy", "mapped", layout="mediapipe33", to="ntu25", fps=25.0)
    found = AdaptedStore(plain.path, layout="ntu25", fps=30)
    same(found.preload(2), resample(mapped.preload(2), frame_step(25, 30)))
    assert found.meta["fps"] == 30
    assert found.index["n_frames"].tolist() == found.preload().frames.tolist()
    assert found.changes[-1] == "25 → 30 frames per second, linearly interpolated"
    assert found.recording(3).shape == (2, found.index["n_frames"][3], 25, 3)


def test_nothing_is_done_where_nothing_differs(people, imported):
    people(COCO17)
    plain = imported("npy", layout="coco17", fps=30.0)
    assert type(open_store(plain.path)) is SkeletonStore
    found = open_store(plain.path, layout=COCO17.to_dict(), fps=30)
    assert found.changes == []
    same(found.preload(2), plain.preload(2))


def test_a_rate_that_is_not_known_is_refused(people, imported):
    people(COCO17)
    plain = imported("npy", layout="coco17")
    with pytest.raises(InputError, match=r"mine: how many frames per second .* import it anew with --fps, or leave"):
        AdaptedStore(plain.path, fps=30)


def test_a_rate_that_is_out_of_reach_names_the_store(people, imported):
    people(COCO17)
    plain = imported("npy", layout="coco17", fps=30.0)
    with pytest.raises(InputError, match=r"mine: 30 frames per second cannot become 1e\+09"):
        AdaptedStore(plain.path, fps=1e9)


def test_a_map_that_there_is_not_is_refused_with_the_way_out(people, imported, tmp_path):
    people(COCO17)
    plain = imported("npy", layout="coco17")
    with pytest.raises(InputError, match=r"mine: coco17 cannot become kinect20: .*'left hand'.*\(base, keep\)"):
        AdaptedStore(plain.path, layout="kinect20")
    layout = tmp_path / "limbs.yaml"
    layout.write_text(yaml.safe_dump({"base": "kinect20", "keep": [*LIMBS, "hip center", "spine", "shoulder center"]}))
    assert AdaptedStore(plain.path, layout=layout).skeleton.num_joints == 15


@pytest.mark.parametrize(
    ("recipe", "layout", "fits"),
    [
        ("sgn", "kinect20", True),
        ("agcn", "kinect20", True),
        ("sds", "kinect20", True),
        ("stgcn50", "kinect20", True),
        ("root", "h36m17", True),
        ("ucla_minmax", "kinect20", False),
        ("of its own", "kinect20", False),
        ("agcn", {"base": "ntu25", "keep": [*NTU25.joints[:4], *LIMBS], "name": "x"}, True),
        ("stgcn50", {"base": "ntu25", "keep": [*NTU25.joints[:4], *LIMBS], "name": "x"}, False),
        ("agcn", {"base": "ntu25", "keep": [*NTU25.joints[:4], *LIMBS], "name": "x", "origin": "head"}, False),
        ("sgn", {"base": "ntu25", "keep": [*NTU25.joints[:4], *LIMBS], "name": "x", "center": "head"}, True),
    ],
)
def test_normalised_clips_are_mapped_where_the_joints_that_moved_them_stay(tmp_path, monkeypatch, recipe, layout, fits):
    data = Synthetic(tmp_path, subjects=2, replications=1, actions=["wave"])
    monkeypatch.setattr(SkeletonStore, "recipe", recipe)
    monkeypatch.setattr(SkeletonStore, "_check_turns", lambda self: None)
    if fits:
        assert AdaptedStore(data.store.path, layout=layout).clips([0]).recipe == recipe
    else:
        with pytest.raises(InputError, match=f"went through the recipe '{recipe}' by joints of ntu25"):
            AdaptedStore(data.store.path, layout=layout)


# --- the data module --------------------------------------------------------------------------------------------------


def batches(data, loader):
    data.setup("fit")
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


@pytest.mark.parametrize(
    "options", [{"preload": "none"}, {"preload": "memory"}, {"preload": "device"}, {"num_workers": 1}]
)
def test_every_loader_yields_the_adapted_clips(people, imported, tmp_path, options):
    people(MEDIAPIPE33)
    imported("npy", "plain", layout="mediapipe33", fps=25.0)
    imported("npy", "mapped", layout="mediapipe33", to="ntu25", fps=25.0)
    common = {"root": tmp_path / "data", "test_share": 0.3, "batch_size": 4, "num_persons": 2}
    found = Custom("plain", layout="ntu25", fps=30.0, **common, **options)
    expected = Custom("mapped", **common)
    assert found.skeleton is NTU25
    for one, two in (
        (found.test_dataloader()[1], expected.test_dataloader()[1]),
        (found.train_dataloader(), expected.train_dataloader()),
    ):
        pairs = zip(batches(found, one), batches(expected, two), strict=True)
        for clips, mapped in pairs:
            want = resample(mapped, frame_step(25, 30))
            assert clips.index.tolist() == want.index.tolist()
            assert torch.equal(clips.reference, want.reference)
            for name in ("frames", "bodies", "first", "label", "repeat"):
                assert torch.equal(getattr(clips, name), getattr(want, name))
            assert torch.equal(found.slots(clips), expected.slots(mapped))
            for n in range(len(clips)):
                frame = torch.arange(int(clips.frames[n]))[None]
                torch.testing.assert_close(
                    clips[torch.tensor([n])].at(frame),
                    want[torch.tensor([n])].at(frame),
                    rtol=0,
                    atol=0,
                    equal_nan=True,
                )


def test_the_joints_that_are_made_up_or_left_out_are_told_once(people, imported, tmp_path, caplog):
    people(COCO17)
    imported("npy", layout="coco17", fps=25.0)
    data = Custom("mine", tmp_path / "data", test_share=0.3, layout="h36m17", fps=30)
    with caplog.at_level("INFO"):
        data.setup("fit")
        data.setup("test")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\ncoco17 → h36m17\n  synthesised: pelvis = +0.5·left hip +0.5·right hip; " in line
    assert "\n  left out: nose, left eye, right eye\n25 → 30 frames per second" in line


def test_every_layout_of_generated_people(tmp_path):
    arguments = {"subjects": 2, "replications": 1, "actions": ["wave"]}
    native, mapped = (Synthetic(tmp_path, layout=layout, **arguments) for layout in ("kinect20", "h36m17"))
    assert native.skeleton == KINECT20
    assert type(native.store) is SkeletonStore
    assert mapped.skeleton is H36M17
    assert mapped.dataset == Synthetic(tmp_path, **arguments).dataset


def test_options_of_the_command_line(people, imported, tmp_path):
    parser = LightningArgumentParser()
    parser.add_subclass_arguments(SkeletonDataModule, "data")
    people(COCO17)
    imported("npy", layout="coco17", fps=25.0)
    words = [
        "--data",
        "Custom",
        "--data.name",
        "mine",
        "--data.root",
        str(tmp_path / "data"),
        "--data.test_share",
        "0.3",
    ]
    for layout, joints in (("h36m17", 17), (f"{{base: coco17, keep: [{', '.join(LIMBS)}]}}", 12)):
        config = parser.parse_args([*words, "--data.layout", layout, "--data.fps", "50"])
        data = parser.instantiate_classes(config).data
        assert (data.skeleton.num_joints, data.store.meta["fps"]) == (joints, 50)
        again = parser.instantiate_classes(parser.parse_string(parser.dump(config))).data
        assert again.skeleton == data.skeleton
