"""Frames that come one by one: what is spared of the work changes nothing of what is seen."""

import contextlib
import itertools
import tracemalloc

import numpy as np
import pytest
import torch

from skelcl import Predictor
from skelcl.encoders import LSTM
from skelcl.errors import InputError
from skelcl.recognition.live import SlidingLSTM
from skelcl.skeleton import NTU25

RUNS = {
    "plus": ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8"],
    "sum": ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.encoder.pool=sum"],
    "last": ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.encoder.pool=last"],
    "longer": ["pretrain/as_cal-nw_ucla-default.yaml", "--model.encoder.hidden=8"],
    "graph": ["supervised/ctr_gcn-ntu.yaml", "--model.encoder.widths=[8, 16]", "--model.encoder.strides=[1, 2]"],
}
SLIDES = {"plus": True, "sum": True, "last": True, "longer": False, "graph": False}


CASES = [("plus", kind) for kind in ("one", "two", "holes", "come and go")]
CASES += [("sum", "two"), ("last", "two"), ("longer", "two"), ("graph", "two"), ("graph", "holes")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, drawn_checkpoint):
    paths = {}
    for name, words in RUNS.items():
        paths[name] = tmp_path_factory.mktemp("live") / "net.ckpt"
        size = [f"--model.{where}.sample.frames=16" for where in ("view", "eval_view")] if SLIDES[name] else []
        drawn_checkpoint(paths[name], *words, *size)
    return paths


def frames(kind, joints=25, length=44):
    """(M, V, C) each: somebody, two who stay, joints that hide, people who come and go."""
    random = np.random.default_rng(3)
    walk = random.normal(size=(1, 2, joints, 3)) + 0.05 * random.normal(size=(length, 2, joints, 3)).cumsum(0)
    out = [one.astype(np.float32) for one in walk]
    if kind == "one":
        return [one[:1] for one in out]
    if kind == "holes":
        for place, joint in ((9, 4), (10, 4), (17, 7)):
            out[place][0, joint] = np.nan
        out[12][1, 2] = 0
        out[20][:] = np.nan
    if kind == "come and go":
        return [one[: (2 if 20 <= place < 24 else 1)] for place, one in enumerate(out)]
    return out


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_each_window_is_seen_as_when_it_comes_alone(runs, name, kind):
    path = runs[name]
    stride = 2 if kind == "two" else 1
    live = Predictor(path, labels="none", neighbours=0, window=16, stride=stride)
    alone = Predictor(path, labels="none", neighbours=0, window=16, stride=stride)
    pushed, seen = frames(kind), 0
    for count, frame in enumerate(pushed, 1):
        found = live.push(frame)
        if count < 16 or (count - 16) % stride:
            assert found is None
            continue
        some = pushed[count - 16 : count]
        bodies = np.full((max(map(len, some)), 16, *frame.shape[1:]), np.nan, np.float32)
        for place, one in enumerate(some):
            bodies[: len(one), place] = one
        alone.reset()
        for one in some:
            same = alone.push(one)
        assert (found.start, found.stop) == (count - 16, count)
        np.testing.assert_allclose(found.features, same.features, rtol=0, atol=1e-5)
        whole = (
            Predictor.predict(alone, bodies).windows[0] if np.isfinite(bodies).all() and (bodies != 0).all() else same
        )
        np.testing.assert_allclose(found.features, whole.features, rtol=0, atol=1e-5)
        seen += whole is not same
    assert seen
    assert (live._sliding is not None) == SLIDES[name]


@pytest.mark.parametrize("name", ["plus", "sum", "last"])
@pytest.mark.parametrize(("stride", "slack", "lengths"), [(1, 3, (16, 17, 18, 19)), (2, 3, (16, 18)), (2, 1, (16,))])
def test_with_slack_a_decision_is_on_exactly_the_frames_that_it_names(runs, name, stride, slack, lengths):
    """The oracle: a recording of these frames, which the view shows one by one."""
    live = Predictor(runs[name], labels="none", neighbours=0, window=16, stride=stride, slack=slack)
    alone = Predictor(runs[name], labels="none", neighbours=0)
    pushed, told = frames("two"), []
    for count, frame in enumerate(pushed, 1):
        found = live.push(frame)
        if count < 16 or (count - 16) % stride:
            assert found is None
            continue
        told.append(found.stop - found.start)
        assert found.stop == count
        alone.method.eval_view.sample.frames = told[-1]
        same = alone.predict(np.stack(pushed[found.start : found.stop], 1)).windows[0]
        np.testing.assert_allclose(found.features, same.features, rtol=0, atol=1e-5)
    assert tuple(told) == tuple(itertools.islice(itertools.cycle(lengths), len(told)))
    assert len(live._sliding._rows) <= -(-(16 + slack) // (stride * (1 + slack // stride)))


@pytest.mark.parametrize("kind", ["holes", "come and go"])
def test_with_slack_no_window_reaches_over_a_gap(runs, kind):
    live = Predictor(runs["plus"], labels="none", neighbours=0, window=16, stride=1, slack=3)
    exact = Predictor(runs["plus"], labels="none", neighbours=0, window=16, stride=1)
    pushed, spans = frames(kind, length=64), []
    for frame in pushed:
        found, same = live.push(frame), exact.push(frame)
        if found is None:
            continue
        spans.append(found.stop - found.start)
        if spans[-1] == 16:
            np.testing.assert_allclose(found.features, same.features, rtol=0, atol=1e-5)
        else:
            some = np.stack([one[: len(frame)] for one in pushed[found.start : found.stop]], 1)
            assert np.isfinite(some).all()
            assert (some != 0).any(-1).all()
            assert {len(one) for one in pushed[found.start : found.stop]} == {len(frame)}
    assert set(spans) == {16, 17, 18, 19}


def test_slack_is_of_windows(runs):
    with pytest.raises(InputError, match="give a window"):
        Predictor(runs["plus"], labels="none", neighbours=0, slack=3)


def test_the_states_are_those_of_the_lstm_in_double_precision():
    """The oracle: torch's own LSTM reads every window from zeros."""
    torch.manual_seed(0)
    encoder = LSTM(NTU25, num_persons=2, hidden=12).double()
    frames = torch.randn(40, 2, 25, 3, dtype=torch.float64)
    single = LSTM(NTU25, num_persons=2, hidden=12).requires_grad_(False)
    single.load_state_dict(encoder.float().state_dict())
    encoder.double()
    ours = SlidingLSTM(single, NTU25, 2, True, True, 10, 1)
    for count, frame in enumerate(frames.float().numpy(), 1):
        found = ours.step(frame, count)
        if count < 10:
            continue
        window = frames[count - 10 : count]
        size = (window[0, 0, NTU25.center] - window[0, 0, NTU25.origin]).norm()
        x = (window - window[:, :, NTU25.origin, None]) / size  # (T, M, V, C)
        expected = encoder(x.permute(3, 0, 2, 1)[None])
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["plus", "graph"])
def test_an_overflow_is_refused_and_forgotten(runs, name):
    live = Predictor(runs[name], labels="none", neighbours=0, window=16, stride=1)
    pushed = frames("one", length=40)
    for frame in pushed[:20]:
        before = live.push(frame)
    for frame in [np.full_like(pushed[0], 3e38) * np.sign(pushed[0]), *pushed[:15]]:
        with contextlib.suppress(InputError):  # an LSTM's gates saturate, a convolution overflows
            live.push(frame)
    for frame in pushed[:20]:
        after = live.push(frame)
    np.testing.assert_allclose(after.features, before.features, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_memory_does_not_grow_over_100_000_frames(tmp_path, drawn_checkpoint):
    small = ["--model.encoder.hidden=8", "--model.eval_view.sample.frames=16"]
    path = drawn_checkpoint(tmp_path / "net.ckpt", "pretrain/as_cal-nw_ucla.yaml", *small)
    live = Predictor(path or tmp_path / "net.ckpt", labels="none", neighbours=0, window=16, stride=1)
    endless = itertools.cycle(frames("one"))
    for frame in itertools.islice(endless, 1000):
        live.push(frame)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for frame in itertools.islice(endless, 100_000):
        live.push(frame)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 100_000  # bytes: less than one for each frame
