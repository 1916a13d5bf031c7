"""``skelcl evaluate`` against the protocols' own functions on features that were taken by hand."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from skelcl.cli import run
from skelcl.commands.evaluate import default_folder, evaluate
from skelcl.commands.results import results
from skelcl.data import NTU120
from skelcl.data.formats.ntu import prepare
from skelcl.data.subsets import LabelSubset
from skelcl.data.synthetic import ntu as synthetic_ntu
from skelcl.errors import InputError
from skelcl.evaluation import PRESETS, knn_predict, linear_probe
from skelcl.evaluation.clustering import ClusteringOptions
from skelcl.evaluation.collapse import CollapseOptions, alignment
from skelcl.evaluation.corruptions import corrupt
from skelcl.evaluation.early import EarlyOptions
from skelcl.evaluation.few_shot import FewShotOptions
from skelcl.evaluation.frozen import random_twin, with_encoder
from skelcl.evaluation.knn import KNNOptions
from skelcl.evaluation.probe import LinearOptions
from skelcl.evaluation.retrieval import RetrievalOptions
from skelcl.evaluation.robustness import SUITE, RobustnessOptions
from skelcl.plotting.run_files import read_early, read_robustness
from skelcl.runs.loading import load
from skelcl.seeding import generator

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FILES = sorted(file for file in (EXPERIMENTS / "evaluate").glob("*.yaml") if "skelcl evaluate" in file.read_text())
OPTIONS = {
    "linear": LinearOptions(),
    "knn": KNNOptions(),
    "retrieval": RetrievalOptions(),
    "clustering": ClusteringOptions(),
    "collapse": CollapseOptions(),
    "few_shot": FewShotOptions(),
    "early": EarlyOptions(),
    "robustness": RobustnessOptions(),
}
PEOPLE = ["--data", EXPERIMENTS / "data" / "synthetic.yaml", "--data.subjects=4", "--data.replications=2"]
PEOPLE += ["--data.actions=['walk around', 'handshake', 'sit down']", "--data.num_persons=2"]
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]
FEW = {"few_shot": FewShotOptions(ways=3, shots=(1,), queries=4, episodes=40)}
ONE_PRESET = {"linear": LinearOptions(("scd",))}
DAMAGES = RobustnessOptions(corruptions={"spatial_part": (1, 3), "id_switch": (1,)}, seed=3, probe="scd")


def words(*given):
    return [str(word) for word in given]


@pytest.fixture(scope="module")
def place(tmp_path_factory, ucla):
    """Folder with a checkpoint of AS-CAL on people, one on NW-UCLA, and one of a supervised network on NW-UCLA."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["skelcl"])
        ssl = ["fit", "--config", EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml", *QUIET, "--trainer.max_epochs=2"]
        ssl += ["--model.encoder.hidden=8", "--model.queue_size=16", "--data.batch_size=16"]
        loggers = "--trainer.logger=[{class_path: CSVLogger, init_args: {save_dir: runs, name: people}}]"
        run(words(*ssl, *PEOPLE, "--data.root=people", "--data.batch_size=16", loggers))
        run(words(*ssl, f"--data.root={ucla}"))
        own = ["fit", "--config", EXPERIMENTS / "supervised" / "hcn-nw_ucla.yaml", *QUIET, "--trainer.max_epochs=1"]
        own += ["--model.encoder.hidden=8", "--model.encoder.points=16", "--trainer.precision=32-true"]
        run(words(*own, f"--data.root={ucla}", "--data.batch_size=8"))
    return folder


@pytest.fixture(autouse=True)
def _here(monkeypatch, place):
    monkeypatch.chdir(place)


def checkpoint(name):
    return Path(f"runs/{name}/version_0/checkpoints/last.ckpt")


PEOPLE_CKPT, UCLA_CKPT, OWN_CKPT = (checkpoint(name) for name in ("people", "as_cal-nw_ucla", "hcn-nw_ucla"))


def by_hand(path, part, change=lambda clips: clips):
    """Features of a part by the learned and the random encoder, labels, data, both methods."""
    model, data = load(path)
    methods = {"": model, "random_": with_encoder(model, random_twin(model.encoder))}
    clips = change(data.store.clips(data.parts[part], data.num_persons))
    with torch.no_grad():
        return {name: one(clips) for name, one in methods.items()}, clips.label, data, methods


@pytest.fixture(scope="module")
def ucla_found(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return evaluate(UCLA_CKPT, "linear,knn,retrieval,clustering,collapse", [0, 1], Path("found"), **ONE_PRESET)


def test_every_protocol_judges_the_same_features_as_by_hand(ucla_found):
    train, train_label, data, methods = by_hand(UCLA_CKPT, "train_all")
    test, label, *_ = by_hand(UCLA_CKPT, "test")
    clean = np.isin(data.parts["test"], data.subsets["test_clean"])
    found = ucla_found.metrics
    for prefix in ("", "random_"):
        for k, name in ((1, "knn"), (5, "knn5"), (20, "knn20")):
            right = (knn_predict(train[prefix], train_label, test[prefix], k, 10) == label).double().numpy()
            assert found[f"test/{prefix}{name}_top1"] == pytest.approx(right.mean())
            assert found[f"test_clean/{prefix}{name}_top1"] == pytest.approx(right[clean].mean())
        probes = [
            linear_probe((train[prefix], train_label), (test[prefix], label), 10, PRESETS["scd"], seed).last
            for seed in (0, 1)
        ]
        assert found[f"test/{prefix}linear_scd_top1"] == pytest.approx(np.mean(probes))
        assert ucla_found.sd[f"test/{prefix}linear_scd_top1"] == pytest.approx(np.std(probes, ddof=1))
        assert found[f"test/{prefix}retrieval_recall1"] == pytest.approx(found[f"test/{prefix}knn_top1"])
        views = []
        for number in (0, 1):
            clips = data.store.clips(data.parts["test"], data.num_persons)
            random = generator("evaluation views", number)
            with torch.no_grad():
                views.append(methods[prefix].encode(clips, methods[prefix].view, random))
        assert found[f"test/{prefix}collapse_alignment"] == pytest.approx(alignment(*views), rel=1e-4)
    assert any(found[f"test/{kind}"] != found[f"test/random_{kind}"] for kind in ("retrieval_map", "collapse_rank"))


def test_the_record_says_what_a_row_must_carry(ucla_found):
    content = json.loads((ucla_found.folder / "results.json").read_text())
    assert content["metrics"] == ucla_found.metrics
    assert content["selection"] == "last epoch"
    assert content["judge_seeds"] == [0, 1]
    assert content["protocols"]["linear"] == {"version": 1, "presets": ["scd"]}
    assert content["protocols"]["knn"] == {"version": 1, "k": [1, 5, 20]}
    run_of = content["run"]
    assert (run_of["data"]["name"], run_of["encoder"], run_of["stream"]) == ("nw-ucla", "LSTM", "joint")
    assert (run_of["epochs"], run_of["seed"], run_of["data"]["labels"]["rule"]) == (2, 0, "all")
    assert "Resize(frames=60" in run_of["view"]
    assert content["feature_width"] == 8
    for name in ("mean_class", "top5", "top1"):
        assert f"test/linear_scd_{name}" in content["metrics"]
    text = (ucla_found.folder / "table.md").read_text()
    cell = f"{100 * ucla_found.metrics['test/linear_scd_top1']:.1f} ± {100 * ucla_found.sd['test/linear_scd_top1']:.1f}"
    assert re.search(rf"^\| scd, top-1 +\| {cell} +\|", text, re.MULTILINE)
    assert (ucla_found.folder / "report.html").is_file()
    assert sorted(path.name for path in ucla_found.folder.iterdir()) == ["report.html", "results.json", "table.md"]


def test_evaluations_stand_in_the_table_of_results(ucla_found, tmp_path, capsys):
    evaluate(UCLA_CKPT, "knn", 0, tmp_path / "knn")
    (tmp_path / "both").mkdir()
    for name, source in (("a", ucla_found.folder), ("b", tmp_path / "knn")):
        (tmp_path / "both" / name).mkdir()
        (tmp_path / "both" / name / "results.json").write_bytes((source / "results.json").read_bytes())
    capsys.readouterr()
    results([tmp_path / "both"])
    out = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in out.splitlines() if line[:1] == "|"]
    rows = {(row[0], row[1]): dict(zip(lines[0], row, strict=True)) for row in lines[2:]}
    found = ucla_found.metrics
    for method, prefix in (("ASCAL", ""), ("random weights", "random_")):
        row = rows["a", method]
        for title, kind in (("kNN", "knn_top1"), ("linear scd", "linear_scd_top1"), ("mAP", "retrieval_map")):
            assert row[title] == f"{100 * found[f'test/{prefix}{kind}']:.1f}"
        assert row["cluster ACC clean"] == f"{100 * found[f'test_clean/{prefix}clustering_acc']:.1f}"
        assert rows["b", method]["kNN"] == row["kNN"]
        assert rows["b", method]["mAP"] == ""
    assert "letter" not in lines[0], "the same clips, labels and choice of the epoch"
    assert "cluster ACC: k-means without labels, matched to classes with them (v1, restarts 10, seeds 0,1)" in out


def test_robustness_is_what_damaged_clips_by_hand_give():
    found = evaluate(PEOPLE_CKPT, ["robustness"], "0", Path("damaged"), robustness=DAMAGES)
    train, train_label, data, _ = by_hand(PEOPLE_CKPT, "train_all")
    ids = [str(name) for name in data.ids[data.parts["test"]]]
    clean, label, *_ = by_hand(PEOPLE_CKPT, "test")
    errors, top1 = {}, {}
    for corruption, severity in (("spatial_part", 1), ("spatial_part", 3), ("id_switch", 1)):
        features, *_ = by_hand(PEOPLE_CKPT, "test", lambda c, d=(corruption, severity): corrupt(c, ids, *d, seed=3))
        for prefix, one in features.items():
            right = knn_predict(train[prefix], train_label, one, 1, 3) == label
            top1.setdefault((prefix, corruption), []).append(right.double().mean().item())
            judged = linear_probe((train[prefix], train_label), (one, label), 3, PRESETS["scd"]).last
            (reading,) = [
                r.top1
                for r in found.readings
                if (r.corruption, r.severity, r.judge, r.subset) == (corruption, severity, "linear", "test")
                and r.encoder == ("random" if prefix else "learned")
            ]
            assert reading == pytest.approx(judged)
    for prefix in ("", "random_"):
        means = [np.mean(top1[prefix, corruption]) for corruption in ("spatial_part", "id_switch")]
        assert found.metrics[f"test/{prefix}robustness_knn_top1"] == pytest.approx(np.mean(means))
        undamaged = (knn_predict(train[prefix], train_label, clean[prefix], 1, 3) == label).double().mean().item()
        assert found.metrics[f"test/{prefix}robustness_knn_drop"] == pytest.approx(undamaged - np.mean(means))
    for corruption in ("spatial_part", "id_switch"):
        errors[corruption] = np.sum(1 - np.array(top1["", corruption])) / np.sum(
            1 - np.array(top1["random_", corruption])
        )
    assert found.metrics["test/robustness_knn_mce"] == pytest.approx(np.mean(list(errors.values())))
    curves, judge = read_robustness(Path("damaged"))
    undamaged = (knn_predict(train[""], train_label, clean[""], 1, 3) == label).double().mean().item()
    assert judge == "knn"
    for corruption, severities in DAMAGES.corruptions.items():
        drawn = np.stack(curves[corruption])
        np.testing.assert_allclose(drawn, [[0, *severities], [undamaged, *top1["", corruption]]])


def first_frames(percent):
    """Cuts the clips of a batch one by one."""

    def cut(clips):
        rows, frames = [], []
        for n in range(len(clips)):
            length, start = int(clips.frames[n]), int(clips.offsets[n])
            frames.append(-(-length * percent // 100))
            for body in range(int(clips.bodies[n])):
                rows += range(start + body * length, start + body * length + frames[-1])
        frames = torch.tensor(frames)
        sizes = frames * clips.bodies
        return replace(clips, joints=clips.joints[rows], frames=frames, offsets=sizes.cumsum(0) - sizes)

    return cut


def test_early_recognition_is_what_clips_cut_one_by_one_give():
    options = EarlyOptions((10, 40, 100), "scd")
    found = evaluate(UCLA_CKPT, "linear,knn,early", [0, 1], Path("early"), early=options, **ONE_PRESET)
    train, train_label, data, _ = by_hand(UCLA_CKPT, "train_all")
    clean = np.isin(data.parts["test"], data.subsets["test_clean"])
    whole = {}
    for percent in (10, 40):
        features, label, *_ = by_hand(UCLA_CKPT, "test", first_frames(percent))
        assert not torch.equal(features[""], whole.setdefault("", by_hand(UCLA_CKPT, "test")[0][""]))
        for prefix, one in features.items():
            right = (knn_predict(train[prefix], train_label, one, 1, 10) == label).double().numpy()
            assert found.metrics[f"test/{prefix}early_knn_top1_{percent}"] == pytest.approx(right.mean())
            assert found.metrics[f"test_clean/{prefix}early_knn_top1_{percent}"] == pytest.approx(right[clean].mean())
            judged = [
                linear_probe((train[prefix], train_label), (one, label), 10, PRESETS["scd"], seed).last
                for seed in (0, 1)
            ]
            assert found.metrics[f"test/{prefix}early_linear_top1_{percent}"] == pytest.approx(np.mean(judged))
            assert found.sd[f"test/{prefix}early_linear_top1_{percent}"] == pytest.approx(np.std(judged, ddof=1))
    for part in ("test/", "test_clean/", "test/random_", "test_clean/random_"):
        for judge, clean_name in (("knn", "knn_top1"), ("linear", "linear_scd_top1")):
            shares = [found.metrics[f"{part}early_{judge}_top1_{percent}"] for percent in (10, 40, 100)]
            assert shares[-1] == found.metrics[f"{part}{clean_name}"], "whole clips, bit for bit"
            assert found.metrics[f"{part}early_{judge}_top1"] == pytest.approx(np.mean(shares))
    content = json.loads(Path("early/results.json").read_text())
    assert content["protocols"]["early"] == {"version": 1, "percents": [10, 40, 100], "probe": "scd"}
    percent, top1, judge = read_early(Path("early"))
    assert (percent.tolist(), judge) == ([10, 40, 100], "knn")
    assert top1.tolist() == [found.metrics[f"test/early_knn_top1_{one}"] for one in (10, 40, 100)]
    assert re.search(r"^\| linear probe, 40 % seen +\| \d", found.table, re.MULTILINE)
    page = Path("early/report.html").read_text()
    assert "Early recognition, 1-NN" in page
    assert "Early recognition, linear probe" in page
    assert "Early recognition, own classifier" not in page


def test_an_own_classifier_decides_early_too():
    found = evaluate(OWN_CKPT, "early", 0, Path("own-early"), early=EarlyOptions((30, 100)))
    model, data = load(OWN_CKPT)
    clips = data.store.clips(data.parts["test"], data.num_persons)
    with torch.no_grad():
        right = model.classify(model(first_frames(30)(clips))).argmax(1) == clips.label
    assert found.metrics["test/early_top1_30"] == pytest.approx(right.double().mean().item())
    for part in ("test", "test_clean"):
        assert found.metrics[f"{part}/early_top1_100"] == found.metrics[f"{part}/top1"], "whole clips, bit for bit"
    assert "test/random_early_top1" not in found.metrics
    assert {"test/random_early_knn_top1", "test/random_early_linear_top1"} <= set(found.metrics)
    assert "Early recognition, own classifier" in Path("own-early/report.html").read_text()
    assert read_early(Path("own-early"))[2] == "own"


def test_a_supervised_checkpoint_is_judged_by_its_features_and_its_own_classifier(capsys):
    few = RobustnessOptions(corruptions={"jitter": (5,), "person_drop": (1,)})
    found = evaluate(OWN_CKPT, "knn,collapse,robustness", 0, Path("own"), robustness=few)
    model, data = load(OWN_CKPT)
    clips = data.store.clips(data.parts["test"], data.num_persons)
    with torch.no_grad():
        logits = model.classify(model(clips))
    assert found.metrics["test/top1"] == pytest.approx((logits.argmax(1) == clips.label).double().mean().item())
    assert {"test_clean/top1", "test/robustness_top1", "test/knn_top1", "test/random_knn_top1"} <= set(found.metrics)
    assert "test/random_top1" not in found.metrics
    assert "no room for person_drop 1" in found.table, "these clips show one person"


def test_another_data_set_is_judged_by_the_encoder_alone(ucla, tmp_path):
    block = tmp_path / "view2.yaml"
    block.write_text(yaml.safe_dump({"class_path": "NWUCLA", "init_args": {"test_view": 2, "accept_seen": True}}))
    found = evaluate(OWN_CKPT, "knn", 0, Path("other"), data=block, root=ucla)
    content = json.loads(Path("other/results.json").read_text())
    assert content["run"]["data"]["split"] == "test_view 2"
    assert "test/top1" not in found.metrics
    same = evaluate(OWN_CKPT, "knn", 0, Path("same"), root=ucla)
    seen_before, tested = same.features["learned"][0], found.features["learned"][1]
    shared = torch.isin(seen_before.index, tested.index)
    assert torch.equal(seen_before.index[shared], tested.index), "what was trained on is tested now"
    torch.testing.assert_close(seen_before.features[shared], tested.features, rtol=1e-4, atol=1e-5)
    again = json.loads(Path("same/results.json").read_text())
    assert content["run"]["config_sha256"] != again["run"]["config_sha256"]


@pytest.mark.parametrize("order", [0, 1])
def test_options_of_the_data_are_laid_over_those_of_the_run_and_of_a_block(ucla, tmp_path, capsys, order):
    block = tmp_path / "view2.yaml"
    block.write_text(yaml.safe_dump({"class_path": "NWUCLA", "init_args": {"test_view": 2, "root": str(ucla)}}))
    start = ["evaluate", "--ckpt_path", UCLA_CKPT, "--protocols=knn", "--seeds=0", "--knn.k=[1]"]
    run(words(*start, "--data.fraction=0.1", "--data.subset_seed", 3, "--output=tenth"))
    both = [[f"--data={block}"], ["--data.fraction", 0.1]]
    run(words(*start, *both[order], *both[1 - order], "--data.accept_seen=true", "--output=other"))
    train, label, data, _ = by_hand(UCLA_CKPT, "train_all")
    test, test_label, *_ = by_hand(UCLA_CKPT, "test")
    chosen = LabelSubset(fraction=0.1, seed=3).draw(data.ids[data.parts["train_all"]], label.numpy())
    expected = (knn_predict(train[""][chosen], label[chosen], test[""], 1, 10) == test_label).double().mean()
    content = json.loads(Path("tenth/results.json").read_text())
    assert content["metrics"]["test/knn_top1"] == pytest.approx(expected.item())
    assert content["gallery_clips"] == chosen.sum() == 10
    other = json.loads(Path("other/results.json").read_text())
    assert (other["run"]["data"]["split"], other["gallery_clips"]) == ("test_view 2", 10)


def test_options_that_leave_the_classes_leave_the_classifier():
    assert "test/top1" in evaluate(OWN_CKPT, "knn", 0, Path("half"), data={"fraction": 0.5}).metrics
    other = {"test_view": 2, "accept_seen": True}
    assert "test/top1" not in evaluate(OWN_CKPT, "knn", 0, Path("view"), data=other).metrics


def test_a_protocol_that_does_not_fit_is_left_out_with_a_word_and_the_others_run():
    few = FewShotOptions(ways=9)
    found = evaluate(PEOPLE_CKPT, "few_shot,knn,collapse", 0, Path("some"), few_shot=few, knn=KNNOptions((1, 500)))
    left = json.loads(Path("some/results.json").read_text())["left_out"]
    assert any("needs 9 classes of at least 16 test clips" in note for note in left)
    assert any(note.startswith("knn: 500 neighbours, there are ") for note in left)
    assert all(note in found.table for note in left)
    assert {"test/knn_top1", "test/random_knn_top1", "test/collapse_rank"} <= set(found.metrics)
    assert not any("few_shot" in name or "knn500" in name for name in found.metrics)


@pytest.fixture(scope="module")
def ntu120(tmp_path_factory):
    """Root of a store in the format of NTU-120, with two of the actions that one-shot calls novel."""
    root = tmp_path_factory.mktemp("ntu120")
    synthetic_ntu.write_ntu(root / "raw", "ntu120", subjects=8, actions=3, setups=2)
    prepare([root / "raw"], root, "ntu120")
    return root


def test_one_shot_compares_with_the_official_exemplars(ntu120):
    block = EXPERIMENTS / "data" / "ntu120-one_shot.yaml"
    run(words("evaluate", "--config", EXPERIMENTS / "evaluate" / "few_shot.yaml", "--ckpt_path", PEOPLE_CKPT,
              "--data", block, "--root", ntu120, "--output", "one_shot"))  # fmt: skip
    found = json.loads(Path("one_shot/results.json").read_text())["metrics"]
    model, _ = load(PEOPLE_CKPT)
    data = NTU120(ntu120, split="one-shot", num_persons=2)
    unit, label = [], []
    for part in (data.parts["train_all"], data.parts["test"]):
        clips = data.store.clips(part, 2)
        with torch.no_grad():
            unit.append(torch.nn.functional.normalize(model(clips), dim=1))
        label.append(clips.label)
    assert [str(name)[-4:] for name in data.ids[data.parts["train_all"]]] == ["A001", "A061"]
    nearest = label[0][(unit[1] @ unit[0].T).argmax(1)]
    assert set(label[1].tolist()) == {0, 60}
    assert found["test/one_shot_top1"] == pytest.approx((nearest == label[1]).double().mean().item())
    assert "test/random_one_shot_top1" in found


def test_novel_actions_are_told_apart_by_training_clips_of_them(ntu120, tmp_path):
    block = tmp_path / "xsub.yaml"
    block.write_text(yaml.safe_dump({"class_path": "NTU120", "init_args": {"split": "xsub", "num_persons": 2}}))
    options = FewShotOptions(ways=2, shots=(1,), queries=2, episodes=5, novel_from=60, neighbours=(1,))
    found = evaluate(PEOPLE_CKPT, "few_shot", 0, Path("novel"), data=block, root=ntu120, few_shot=options).metrics
    model, _ = load(PEOPLE_CKPT)
    data = NTU120(ntu120, split="xsub", num_persons=2)
    unit, label = [], []
    for part in (data.parts["train"], data.parts["test"]):
        clips = data.store.clips(part[data.store.index["label"][part] >= 60], 2)
        with torch.no_grad():
            unit.append(torch.nn.functional.normalize(model(clips), dim=1))
        label.append(clips.label)
    assert set(label[0].tolist()) == set(label[1].tolist()) == {60, 61, 105}
    nearest = label[0][(unit[1] @ unit[0].T).argmax(1)]
    assert found["test/novel_knn1_top1"] == pytest.approx((nearest == label[1]).double().mean().item())


def test_several_checkpoints_in_one_command(capsys):
    run(words("evaluate", "--ckpt_path", PEOPLE_CKPT, UCLA_CKPT, "--protocols", "knn", "--seeds=0", "--knn.k=[1]"))
    for path in (PEOPLE_CKPT, UCLA_CKPT):
        metrics = json.loads((default_folder(path) / "results.json").read_text())["metrics"]
        assert "test/knn_top1" in metrics
        assert "test/knn5_top1" not in metrics
        assert f"files: {default_folder(path)}" in capsys.readouterr().out or path == UCLA_CKPT


def test_a_killed_evaluation_leaves_the_old_one(monkeypatch):
    evaluate(UCLA_CKPT, "knn", 0, Path("kept"))
    before = {path.name: path.read_bytes() for path in Path("kept").iterdir()}
    monkeypatch.setattr("skelcl.commands.evaluate.write_page", lambda page, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(UCLA_CKPT, "knn", 0, Path("kept"))
    assert {path.name: path.read_bytes() for path in Path("kept").iterdir()} == before


@pytest.mark.parametrize(
    ("given", "told", "code"),
    [
        (["--protocols", "knn,magic"], "no protocol 'magic', they are linear, knn, retrieval", 2),
        (["--seeds", "0,0"], "--seeds are different numbers from 0 on, like 0,1,2, not 0,0", 2),
        (["--few_shot.ways", "9", "--protocols", "few_shot"], "needs 9 classes of at least 16 test clips", 1),
        (
            ["--robustness.corruptions", "{smoke: [1]}", "--protocols", "robustness"],
            "no corruption 'smoke'",
            2,
        ),
        (["--early.percents", "[10,10]"], "early: percents are different shares, like [10,50,100], not [10, 10]", 2),
        (["--early.percents", "[0,50]"], "percents: must be in 1…100, got 0", 2),
        (["--data", "nowhere.yaml"], "--data nowhere.yaml: no such file", 1),
        (["--data", "half.yaml"], "half.yaml: not YAML", 1),
        (["--output", "half.yaml/found"], "--output half.yaml/found: half.yaml is a file, and a folder is wanted", 1),
        (["--device", "abacus"], "--device abacus: ", 2),
        (["--device", "meta"], "--device meta: there is none here", 2),
        (["--data.fractoin", "0.1"], "fractoin", 2),
        (["--data.fraction", "7"], "fraction: must be in (0, 1], got 7", 2),
        (["--knn.j", "3"], "unrecognized arguments: --knn.j", 2),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint", 1),
    ],
)
def test_bad_options_are_one_line(capsys, given, told, code):
    Path("half.yaml").write_text("class_path: [")
    start = [] if "--ckpt_path" in given else ["--ckpt_path", str(PEOPLE_CKPT)]
    with pytest.raises(SystemExit) as stop:
        run(["evaluate", *start, *given])
    error = capsys.readouterr().err
    assert stop.value.code == code
    assert told in error.splitlines()[-1]
    assert "Traceback" not in error


def test_without_scikit_learn_clustering_and_maps_are_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for protocols, options in (("all", {}), ("knn", {"map": "tsne"})):
        with pytest.raises(InputError, match=r"pip install 'skelcl\[evaluate\]'"):
            evaluate(Path("nowhere.ckpt"), protocols, **options)


def test_every_file_of_the_folder_belongs_to_one_command():
    others = [file for file in (EXPERIMENTS / "evaluate").glob("*.yaml") if file not in FILES]
    assert all(("skelcl fine-tune" in file.read_text()) != (file.stem == "fusion") for file in others)
    assert {file.stem for file in FILES} == {*OPTIONS, "all"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_spells_out_the_defaults_of_its_protocol(capsys, file):
    header = "".join(line for line in file.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert f"skelcl evaluate --config experiments/evaluate/{file.name} --ckpt_path X" in header
    for field in ("Pretrain", "Evaluate", "Expect", "Duration"):
        assert re.search(rf"^# {field}\b", header, re.MULTILINE), field
    content = yaml.safe_load(file.read_text())
    with pytest.raises(SystemExit) as stop:
        run(words("evaluate", "--config", file, "--ckpt_path", "X", "--print_config"))
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    assert content["protocols"] == ("all" if file.stem == "all" else [file.stem])
    if file.stem != "all":
        from dataclasses import asdict

        defaults = json.loads(json.dumps(asdict(OPTIONS[file.stem])))
        assert json.loads(json.dumps(resolved[file.stem])) == defaults
        assert set(content[file.stem]) <= set(defaults)
    assert {key: list(value) for key, value in OPTIONS["robustness"].corruptions.items()} == {
        key: list(value) for key, value in SUITE.items()
    }


@pytest.mark.parametrize("name", ["knn", "retrieval", "clustering", "collapse", "few_shot", "early", "linear"])
def test_a_file_runs(name, capsys):
    options = ["--few_shot.ways=3", "--few_shot.queries=4", "--few_shot.episodes=20"] if name == "few_shot" else []
    options += ["--linear.presets=[scd]"] if name == "linear" else []
    file = EXPERIMENTS / "evaluate" / f"{name}.yaml"
    run(words("evaluate", "--config", file, "--ckpt_path", PEOPLE_CKPT, "--output", f"ran-{name}", *options))
    metrics = json.loads(Path(f"ran-{name}/results.json").read_text())["metrics"]
    assert metrics
    assert all(key.split("/")[1].removeprefix("random_").startswith(name) for key in metrics)


@pytest.mark.slow
def test_the_file_of_all_protocols_runs(capsys):
    few = ["--few_shot.ways=3", "--few_shot.queries=4"]
    file = EXPERIMENTS / "evaluate" / "all.yaml"
    run(words("evaluate", "--config", file, "--ckpt_path", PEOPLE_CKPT, "--output", "all", *few))
    content = json.loads(Path("all/results.json").read_text())
    assert set(content["protocols"]) == set(OPTIONS)
    assert len(content["robustness"]) == 2 * 2 * sum(map(len, SUITE.values()))


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("fraction=3", "data: NWUCLA: fraction: must be in (0, 1], got 3"),
        ("fracton=0.3", "fracton"),
        ("validation=hold", "validation"),
        ("classes=[wabe]", "classes: no class 'wabe'"),
        ("split=xsub", "split"),
        (None, "--data: a file with a data block is wanted"),
    ],
)
def test_a_wrong_option_of_the_data_is_the_command_lines_fault_and_not_the_checkpoints(capsys, option, told):
    with pytest.raises(SystemExit) as stop:
        run(words("evaluate", "--ckpt_path", UCLA_CKPT, "--protocols=knn", f"--data.{option}" if option else "--data"))
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("skelcl: error: ")
    assert told in line
    assert "last.ckpt" not in line
    assert len(line.splitlines()) == 1


def test_a_data_block_whose_anchors_expand_is_refused_at_once(capsys, tmp_path):
    names = "abcdefghi"
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in itertools.pairwise(names)]
    (tmp_path / "data.yaml").write_text("\n".join(["class_path: NWUCLA", *lines]))
    with pytest.raises(SystemExit) as stop:
        run(words("evaluate", "--ckpt_path", UCLA_CKPT, "--data", tmp_path / "data.yaml"))
    assert stop.value.code == 1, "a file of data, not a config"
    assert "data.yaml: its anchors expand to" in capsys.readouterr().err
