"""A judge of ready-made features: subsets, seeds, exemplars and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skelcl.errors import InputError
from skelcl.evaluation.encode import Encoded, encode
from skelcl.evaluation.few_shot import FewShotOptions
from skelcl.evaluation.judge import Judge
from skelcl.evaluation.robustness import Reading, RobustnessOptions, robustness_scores, suite
from skelcl.skeleton import NTU25

FEW = FewShotOptions(ways=3, shots=(1, 2), queries=4, episodes=30)


def encoded(per_class: int, seed: int, classes: int = 4) -> Encoded:
    random = torch.Generator().manual_seed(seed)
    label = torch.arange(classes).repeat_interleave(per_class)
    features = torch.eye(classes, 6)[label] + 0.3 * torch.randn(len(label), 6, generator=random)
    return Encoded(features, label, torch.arange(len(label)))


@pytest.fixture
def judge() -> Judge:
    test = encoded(8, 1)
    part = torch.arange(32) % 8 < 3
    return Judge(encoded(10, 0), test, {"test": torch.ones(32, dtype=torch.bool), "part": part}, 4, (0, 3))


def test_every_seed_is_a_number_and_a_probe_is_trained_once(judge: Judge) -> None:
    judge.linear(["scd"])
    values = judge.scores.values["test/linear_scd_top1"]
    assert values == [judge.probe("scd", seed).last for seed in (0, 3)]
    assert judge.probe("scd", 0) is judge.probe("scd", 0)
    assert judge.scores.mean()["test/linear_scd_top1"] == pytest.approx(np.mean(values))
    assert judge.scores.sd()["test/linear_scd_top1"] == pytest.approx(np.std(values, ddof=1))
    right = judge.probe("scd", 3).logits.argmax(1) == judge.test.label
    assert judge.scores.values["part/linear_scd_top1"][1] == pytest.approx(right[judge.subsets["part"]].double().mean())


def test_a_probe_classifies_other_clips_as_it_classified_the_test_clips(judge: Judge) -> None:
    for preset in ("scd", "mae_no_augmentation"):
        probe = judge.probe(preset, 0)
        torch.testing.assert_close(probe.head(judge.test.features), probe.logits)
        assert not torch.allclose(probe.head(-judge.test.features), probe.logits)


def test_a_subset_with_too_few_clips_has_no_episodes(judge: Judge) -> None:
    judge.few_shot(FEW)
    assert set(judge.scores.values) == {"test/few_shot_1shot", "test/few_shot_2shot"} == set(judge.scores.interval)
    assert judge.scores.mean()["test/few_shot_1shot"] > 0.5
    assert [note.split(":")[0] for note in judge.scores.notes] == ["part", "part"]
    with pytest.raises(InputError, match="needs 9 classes"):
        judge.few_shot(FewShotOptions(ways=9))


def test_exemplars_and_novel_classes(judge: Judge) -> None:
    one = torch.arange(4) * 10
    exemplars = Encoded(*(tensor[one] for tensor in (judge.train.features, judge.train.label, judge.train.index)))
    other = Judge(exemplars, judge.test, judge.subsets, 4)
    other.few_shot(FewShotOptions(ways=9, novel_from=2, neighbours=(1,)), exemplars=True)
    unit = torch.nn.functional.normalize
    nearest = (unit(judge.test.features) @ unit(exemplars.features).T).argmax(1)
    right = (nearest == judge.test.label).double()
    assert other.scores.mean()["test/one_shot_top1"] == pytest.approx(right.mean().item())
    assert other.scores.mean()["part/one_shot_top1"] == pytest.approx(right[judge.subsets["part"]].mean().item())
    novel = judge.test.label >= 2
    nearest = 2 + (unit(judge.test.features[novel]) @ unit(exemplars.features[2:]).T).argmax(1)
    right = (nearest == judge.test.label[novel]).double()
    assert other.scores.mean()["test/novel_knn1_top1"] == pytest.approx(right.mean().item())


def test_mean_corruption_error_by_hand() -> None:
    rows = [("jitter", 1, 0.8, 0.6), ("jitter", 5, 0.4, 0.2), ("view", 30, 0.5, 0.5)]
    readings = [
        Reading(corruption, severity, encoder, "knn", "test", top1)
        for corruption, severity, learned, random in rows
        for encoder, top1 in (("learned", learned), ("random", random))
    ]
    clean = {("learned", "knn", "test"): 0.9, ("random", "knn", "test"): 0.7}
    assert robustness_scores(readings, clean) == pytest.approx(
        {
            "test/robustness_knn_top1": (0.6 + 0.5) / 2,
            "test/robustness_knn_drop": 0.9 - 0.55,
            "test/robustness_knn_mce": (0.8 / 1.2 + 1) / 2,
            "test/random_robustness_knn_top1": (0.4 + 0.5) / 2,
            "test/random_robustness_knn_drop": 0.7 - 0.45,
        }
    )


def test_damage_that_the_data_have_no_room_for_is_left_out() -> None:
    small = NTU25.subset([NTU25.joints[j] for j in (0, 1, 4, 8, 20)])
    kept, left = suite(RobustnessOptions(), small, num_persons=1, channels=2)
    assert ("spatial_part", 2) in kept
    assert ("spatial_joint", 3) in kept
    assert ("jitter", 5) in kept
    wanted = ["spatial_part 3", "spatial_joint 5", "spatial_joint 8", "spatial_joint 12"]
    wanted += [f"view {angle}" for angle in (15, 30, 60, 90)] + ["person_drop 1", "id_switch 1"]
    assert left == wanted
    assert len(suite(RobustnessOptions(), NTU25, 2, 3)[0]) == 25
    with pytest.raises(InputError, match=r"temporal_drop 1.5, a share of the frames is at most 1"):
        suite(RobustnessOptions({"temporal_drop": (1.5,)}), NTU25, 2, 3)


def test_each_clip_is_read_once_for_all_encoders(data) -> None:
    reads = []

    def read(positions):
        reads.extend(positions.tolist())
        return data.clips(positions)

    positions = np.array([5, 3, 40, 41, 2])
    encoders = {
        "mean": lambda clips: clips.joints[clips.index].mean(1),
        "x": lambda clips: clips.joints[clips.index, 0],
    }
    found = encode(encoders, read, positions, batch_size=2)
    assert reads == positions.tolist()
    assert torch.equal(found["mean"].features, data.joints[positions].mean(1))
    assert torch.equal(found["x"].features, data.joints[positions, 0])
    assert torch.equal(found["x"].label, data.label[positions])
    assert found["x"].index.tolist() == positions.tolist()
    with pytest.raises(InputError, match="of 5 bad encoder's features are not finite"):
        encode({"bad": lambda clips: clips.joints[clips.index].mean(1) / 0}, read, positions)
