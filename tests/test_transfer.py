"""An encoder of one layout of joints on data of others: as if these had been mapped when they were imported."""

import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from skelcl.cli import run
from skelcl.commands.evaluate import evaluate
from skelcl.data.facts import FACTS_KEY
from skelcl.data.poses.importing import convert_poses
from skelcl.data.poses.layouts import map_layout
from skelcl.data.synthetic.performance import FPS, record
from skelcl.data.synthetic.poses import landmarks
from skelcl.errors import InputError
from skelcl.runs.loading import load, read_data_facts
from skelcl.runs.matching import chosen_options, matching_options
from skelcl.runs.trust import CONFIG_KEY, stored_config
from skelcl.skeleton import COCO17, KINECT20, MEDIAPIPE33, NTU25

LIMBS = [
    f"{side} {joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
]
SHARED = ["hip center", "spine", "shoulder center", "head", *LIMBS]
"""What COCO's 17 joints make of those of Kinect v1."""
ACTIONS = ("sit down", "throw", "walk around")
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SLOW = pytest.mark.slow
JUDGED = ["--protocols=linear,knn", "--seeds=0", "--device=cpu"]


def words(*given):
    return [str(word) for word in given]


@pytest.fixture(scope="module")
def place(tmp_path_factory, ucla):
    """Folder with stores of one small world in three layouts, each also mapped when it was imported, and layouts."""
    folder = tmp_path_factory.mktemp("transfer")
    (folder / "shared.yaml").write_text(yaml.safe_dump({"base": "kinect20", "keep": SHARED}))
    for action in ACTIONS:
        for actor in range(1, 5):
            joints = record(action, actor, skeleton=NTU25)[2][:1]
            whole = landmarks(joints[0]).astype(np.float32)[None]
            holes = np.random.default_rng(actor).random(whole.shape[:3]) < 0.02
            whole[holes] = np.nan
            poses = {"ntu25": joints, "mediapipe33": whole, "coco17": map_layout(MEDIAPIPE33, COCO17)(whole)}
            for layout, clip in poses.items():
                file = folder / layout / action / f"{actor}.npy"
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, clip)
    for layout in ("ntu25", "mediapipe33", "coco17"):
        rows = [f"{action}/{actor},{action},{actor}" for action in ACTIONS for actor in range(1, 5)]
        (folder / layout / "labels.csv").write_text("\n".join(["id,label,subject", *rows]) + "\n")
        for name, to in (("", None), ("-kinect20", "kinect20"), ("-shared", folder / "shared.yaml")):
            if (layout, to) != ("coco17", "kinect20"):
                source, root = folder / layout, folder / "data"
                convert_poses(source, layout + name, root, "npy", layout=layout, to=to and str(to), fps=float(FPS))
    return folder


@pytest.fixture(autouse=True)
def _here(monkeypatch, place):
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.argv", ["skelcl"])


def block(name, **options):
    """A file with the data block of one of the stores."""
    data = {"class_path": "Custom", "init_args": {"name": name, "test_subjects": [3, 4], "num_persons": 1, **options}}
    digest = "-".join(f"{key}_{value}".replace("/", "_") for key, value in options.items())
    with open(f"{name}{digest}.yaml", "w") as file:
        yaml.safe_dump(data, file)
    return file.name


def train(name, *data):
    """AS-CAL, for an epoch; the checkpoint."""
    logger = f"--trainer.logger=[{{class_path: CSVLogger, init_args: {{save_dir: runs, name: {name}}}}}]"
    config = ["fit", "--config", "pretrain/as_cal-nw_ucla.yaml", *QUIET, "--trainer.max_epochs=1"]
    own = ["--model.encoder.hidden=8", "--model.queue_size=8", "--data.batch_size=6", "--data.validation=none"]
    run(words(*config, *data, *own, logger))
    return f"runs/{name}/version_0/checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def kinect(place, ucla):
    """``kinect(layout)``: AS-CAL of NW-UCLA's 20 joints, or of those of them that COCO's joints can make."""

    @cache
    def trained(layout):
        return train(layout, f"--data.root={ucla}", *["--data.layout=shared.yaml"] * (layout == "shared"))

    return trained


def judged(checkpoint, data, output):
    """Metrics, and the features of the test clips of the learned encoder."""
    found = evaluate(checkpoint, ["linear", "knn"], "0", output, data, device="cpu")
    assert json.loads((output / "results.json").read_text())["metrics"] == found.metrics
    return found.metrics, found.features["learned"][1].features


def seen(folder):
    """What the record says of the joints and the rate that the clips were given."""
    data = json.loads((folder / "results.json").read_text())["run"]["data"]
    return tuple(data.get(name) for name in ("layout", "fps", "changes"))


def told(capfd):
    """The lines that tell how data were matched to a checkpoint."""
    return [line for line in capfd.readouterr().out.splitlines() if " for runs/" in line]


@pytest.mark.parametrize(
    ("store", "layout", "line"),
    [
        ("mediapipe33", "kinect20", "mediapipe33 mapped to kinect20, 6 joints made of others, 13 left out"),
        pytest.param("ntu25", "kinect20", "ntu25 mapped to kinect20, 0 joints made of others, 5 left out", marks=SLOW),
        pytest.param("coco17", "shared", "coco17 mapped to shared, 4 joints made of others, 3 left out", marks=SLOW),
    ],
)
def test_an_encoder_of_nw_ucla_is_judged_on_other_joints(kinect, tmp_path, capfd, store, layout, line):
    found, features = judged(kinect(layout), block(store), tmp_path / "found")
    assert told(capfd) == [f"{store} for {kinect(layout)}: {line}"]
    assert seen(tmp_path / "found") == (layout, 30.0, [f"{store} → {layout}"])
    told_of = f"clips of {store} are not seen as they are stored: {store} → {layout}"
    assert told_of in (tmp_path / "found" / "table.md").read_text()
    assert told_of.partition(" →")[0] in (tmp_path / "found" / "report.html").read_text()
    run(words("results", tmp_path / "found", "--output", tmp_path / "found.csv"))
    assert f"found: {told_of}.**" in capfd.readouterr().out
    (row,) = csv.DictReader((tmp_path / "found.csv").read_text().splitlines())
    assert (row["layout"], row["fps"]) == (layout, "30.0")
    expected, same = judged(kinect(layout), block(f"{store}-{layout}"), tmp_path / "expected")
    assert told(capfd) == []
    assert seen(tmp_path / "expected") == (None, None, None)
    assert torch.equal(features, same)
    assert found == expected
    assert found["test/knn_top1"] > 0


@SLOW
@pytest.mark.parametrize(
    ("store", "layout", "line"),
    [
        ("mediapipe33", "kinect20", None),
        ("ntu25", "kinect20", None),
        ("coco17", "shared", "kinect20 mapped to shared, 0 joints made of others, 4 left out"),
    ],
)
def test_an_encoder_of_other_joints_is_judged_on_nw_ucla(place, ucla, tmp_path, capfd, store, layout, line):
    """Trained in a layout that NW-UCLA's joints can become; as on a store that was mapped when it was imported."""
    target = {"kinect20": "kinect20", "shared": "shared.yaml"}[layout]
    checkpoints = [
        train(f"{store}-mapped", "--data", block(store), f"--data.layout={target}"),
        train(f"{store}-imported", "--data", block(f"{store}-{layout}")),
    ]
    weights = [load(path)[0].state_dict() for path in checkpoints]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])
    facts = [read_data_facts(place / path) for path in checkpoints]
    assert facts[0].skeleton == facts[1].skeleton
    (place / "nw_ucla.yaml").write_text(yaml.safe_dump({"class_path": "NWUCLA", "init_args": {"root": str(ucla)}}))
    capfd.readouterr()
    found, features = judged(checkpoints[0], "nw_ucla.yaml", tmp_path / "found")
    assert told(capfd) == ([] if line is None else [f"nw-ucla for {checkpoints[0]}: {line}"])
    expected, same = judged(checkpoints[1], "nw_ucla.yaml", tmp_path / "expected")
    assert torch.equal(features, same)
    assert found == expected


VERBS = {
    "evaluate": ["evaluate", *JUDGED, "--output=refused"],
    "test": ["test", *QUIET, "--data.root=data"],
    "predict": ["predict", *QUIET, "--data.root=data", "--features.path=refused.npz"],
    "fine-tune": ["fine-tune", *QUIET, "--data.root=data", "--seeds=0", "--trainer.max_epochs=1"],
}


@pytest.mark.parametrize("verb", ["evaluate", *(pytest.param(verb, marks=SLOW) for verb in (*VERBS,)[1:])])
def test_joints_that_cannot_be_made_are_one_line_with_the_way_out(kinect, verb, capfd):
    with pytest.raises(SystemExit) as caught:
        run(words(VERBS[verb][0], "--ckpt_path", kinect("kinect20"), "--data", block("coco17"), *VERBS[verb][1:]))
    assert caught.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "coco17" in line and "INFO" not in line]
    assert f"{kinect('kinect20')} was trained on the joints of kinect20; data/coco17: coco17 cannot become" in line
    assert "nothing to make 'left hand', 'right hand', 'left foot', 'right foot' of; leave these joints out" in line
    assert line.endswith("with a layout file (base, keep), as --data.layout of its training")


@SLOW
def test_test_and_predict_map_like_evaluate(kinect, tmp_path, capfd):
    data = ["--data", block("mediapipe33")]
    data.append("--data.root=data")
    for name, verb in {"test": [], "predict": ["--features.path=mapped.npz"]}.items():
        run(words(name, "--ckpt_path", kinect("kinect20"), *data, *QUIET, *verb))
        (line,) = told(capfd)
        assert line.startswith(f"mediapipe33 for {kinect('kinect20')}: mediapipe33 mapped to kinect20, 6 joints")
    _, features = judged(kinect("kinect20"), block("mediapipe33-kinect20"), tmp_path / "expected")
    with np.load("mapped.npz") as content:
        np.testing.assert_allclose(content["features"], features, atol=1e-6)


@SLOW
def test_fine_tuning_and_its_twin_from_scratch_see_the_joints_of_the_checkpoint(kinect, place, capfd):
    data = ["--data", block("mediapipe33"), "--data.root=data", "--data.batch_size=2", "--supervised.figures=false"]
    logger = "--trainer.logger=[{class_path: CSVLogger, init_args: {save_dir: runs, name: tuned}}]"
    short = [*QUIET, "--seeds=0", "--trainer.max_epochs=1"]
    run(words("fine-tune", "--ckpt_path", kinect("kinect20"), *data, *short, logger))
    assert len(told(capfd)) == 1
    for variant in ("pretrained", "scratch"):
        (path,) = place.glob(f"runs/tuned/version_0/{variant}-seed_0/version_0/checkpoints/last.ckpt")
        assert read_data_facts(path).skeleton == KINECT20


def test_a_layout_that_was_chosen_wins(kinect, capfd):
    """And what does not fit then is one line."""
    data = ["--data", block("mediapipe33", layout="h36m17")]
    with pytest.raises(SystemExit):
        run(words("evaluate", "--ckpt_path", kinect("kinect20"), *data, *JUDGED, "--output=refused"))
    out, error = capfd.readouterr()
    assert " for runs/" not in out
    assert "its LSTM was trained on other skeletons, persons, channels or classes than this data has" in error


def test_a_layout_file_travels_in_the_checkpoint(kinect, place):
    path = place / kinect("shared")
    (place / "shared.yaml").rename(place / "away.yaml")
    try:
        assert stored_config(path)["data"]["init_args"]["layout"]["joints"] == SHARED
        assert list(load(path)[1].skeleton.joints) == SHARED
    finally:
        (place / "away.yaml").rename(place / "shared.yaml")


# --- frames per second, bodies, coordinates ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_thirty(place):
    """AS-CAL of 20 joints at 30 frames per second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("sys.argv", ["skelcl"])
        return train("thirty", "--data", block("ntu25-kinect20"))


def slowed(place, factor, name):
    """The poses of Kinect v1 at ``factor`` times the frames per second, linear in between: an integral factor."""
    for action in ACTIONS:
        for actor in range(1, 5):
            joints = np.load(place / "ntu25" / action / f"{actor}.npy")
            frames = np.arange((joints.shape[1] - 1) * factor + 1) / factor
            low = frames.astype(int)
            high = np.minimum(low + 1, joints.shape[1] - 1)
            share = (frames - low).astype(np.float32)[:, None, None]
            file = place / name / action / f"{actor}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, (1 - share) * joints[:, low] + share * joints[:, high])
    labels = (place / "ntu25" / "labels.csv").read_text()
    (place / name / "labels.csv").write_text(labels)
    return convert_poses(place / name, name, place / "data", "npy", layout="ntu25", fps=float(FPS * factor))


def test_a_recording_of_another_rate_is_resampled(at_thirty, place, tmp_path, capfd):
    """120 frames per second of which each fourth is a frame of the clips at 30: the same features."""
    slowed(place, 4, "fast")
    found, features = judged(at_thirty, block("fast"), tmp_path / "found")
    line = "ntu25 mapped to kinect20, 0 joints made of others, 5 left out; 120 frames per second resampled to 30"
    assert told(capfd) == [f"fast for {at_thirty}: {line}"]
    resampled = "120 → 30 frames per second, linearly interpolated"
    assert seen(tmp_path / "found") == ("kinect20", 30.0, ["ntu25 → kinect20", resampled])
    expected, same = judged(at_thirty, block("ntu25-kinect20"), tmp_path / "expected")
    torch.testing.assert_close(features, same, rtol=0, atol=1e-5)
    assert found["test/knn_top1"] == expected["test/knn_top1"]
    capfd.readouterr()
    judged(at_thirty, block("fast", fps=60), tmp_path / "chosen")
    assert "resampled" not in told(capfd)[0]


def test_bodies_are_those_of_the_training_unless_chosen(at_thirty, place, capfd):
    options, line = matching_options(yaml.safe_load(Path(block("ntu25")).read_text()), place / at_thirty)
    assert "num_persons" not in options
    data = yaml.safe_load(Path(block("ntu25", num_persons=3)).read_text())
    options, line = matching_options(data, place / at_thirty)
    assert "num_persons" not in options
    assert line.endswith("; 3 bodies of a clip shown, the training had 1")
    people = {"class_path": "Synthetic", "init_args": {"subjects": 2, "replications": 1, "actions": ["wave", "hug"]}}
    options, line = matching_options(people, place / at_thirty)
    assert options == {"layout": "kinect20", "num_persons": 1}
    assert line.endswith("; 1 bodies of a clip shown")
    people["init_args"] |= {"num_persons": 2, "fps": None}  # as anybody has them who chooses none
    assert matching_options(people, place / at_thirty)[0] == options
    words = ["--data.num_persons", "2", "--data.init_args.fps=null", "--data", "x.yaml", "--seed_everything=1"]
    options, line = matching_options(people, place / at_thirty, chosen_options(words))
    assert options == {"layout": "kinect20"}
    assert line.endswith("; 2 bodies of a clip shown, the training had 1")


CHOOSING = {
    "evaluate": ["evaluate", *JUDGED, "--output=chosen"],
    "test": ["test", *QUIET, "--data.root=data"],
    "fine-tune": [
        "fine-tune",
        *QUIET,
        "--data.root=data",
        "--seeds=0",
        "--trainer.max_epochs=1",
        "--scratch=false",
        "--trainer.logger=[{class_path: CSVLogger, init_args: {save_dir: runs, name: chosen}}]",
    ],
}


@pytest.mark.parametrize("verb", ["evaluate", *(pytest.param(verb, marks=SLOW) for verb in (*CHOOSING,)[1:])])
def test_a_number_of_bodies_that_was_chosen_wins_whatever_it_is(drawn_checkpoint, place, verb, tmp_path, capfd):
    """It is the default of these data, and a network of two bodies sees one then."""
    path = tmp_path / "two.ckpt"
    drawn_checkpoint(path, "pretrain/sds_cl-nw_ucla-small.yaml", "--model.encoder.blocks=[[8, 4, 1], [16, 4, 2]]")
    data = ["--data", block("ntu25"), "--data.num_persons=1", "--data.batch_size=2"]
    run(words(CHOOSING[verb][0], "--ckpt_path", path, *data, *CHOOSING[verb][1:]))
    (line,) = [line for line in capfd.readouterr().out.splitlines() if f" for {path}" in line]
    assert line == f"ntu25 for {path}: 1 bodies of a clip shown, the training had 2"
    if verb == "fine-tune":
        (tuned,) = place.glob("runs/chosen/version_0/pretrained-seed_0/version_0/checkpoints/last.ckpt")
        assert read_data_facts(tuned).num_persons == 1


def test_coordinates_of_another_number_are_one_line(at_thirty, place):
    clip = np.load(place / "coco17" / ACTIONS[0] / "1.npy")[..., :2]
    for actor in range(1, 5):
        file = place / "flat" / ACTIONS[0] / f"{actor}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, clip + actor)
    convert_poses(place / "flat", "flat", place / "data", "npy", layout="coco17", channels=2)
    with pytest.raises(
        InputError, match=r"trained on 3 coordinates per joint, and data/flat has 2: it needs data of 3"
    ):
        matching_options({"class_path": "Custom", "init_args": {"name": "flat", "test_share": 0.5}}, place / at_thirty)


def test_a_checkpoint_from_before_the_facts_asks_its_store(at_thirty, place):
    content = torch.load(at_thirty, weights_only=True)
    del content[FACTS_KEY]
    torch.save(content, "old.ckpt")
    data = yaml.safe_load(Path(block("mediapipe33")).read_text())
    assert matching_options(data, place / "old.ckpt")[0] == {"layout": "kinect20"}


def test_a_store_is_asked_by_a_class_of_others_where_that_is_trusted(at_thirty, place, tmp_path, monkeypatch):
    (tmp_path / "houses.py").write_text("from skelcl.data import Custom\n\n\nclass House(Custom):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(at_thirty, weights_only=True)
    del content[FACTS_KEY]
    content[CONFIG_KEY] = content[CONFIG_KEY].replace("skelcl.data.Custom", "houses.House")
    torch.save(content, "others.ckpt")
    data = yaml.safe_load(Path(block("mediapipe33")).read_text())
    assert matching_options(data, place / "others.ckpt", trust="houses")[0] == {"layout": "kinect20"}
    assert matching_options(data, place / "others.ckpt")[0] == {}
