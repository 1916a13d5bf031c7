"""InfoNCE between lists of tokens against closed forms, a slow twin, its invariances, and itself on two processes."""

import math
from multiprocessing import get_context

import pytest
import torch
from torch import distributed

from skelcl.losses import token_contrast
from skelcl.nn import gather_with_gradient


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def loss(a, b, temperature, negatives="within"):
    """Of one pair of token lists, or of a pair for each clip, in float64."""
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    return token_contrast(*(x.reshape(1, -1, *x.shape[-2:]) for x in (a, b)), temperature, negatives)[0].item()


def slow_twin(a, b, temperature, negatives="within"):
    """Loss and hit rate of a pair (N, L, D): token after token, with the softmax written out."""
    clips = [(x.tolist(), y.tolist()) for x, y in zip(a, b, strict=True)]
    if negatives == "within+batch":
        clips = [tuple([token for pair in clips for token in pair[side]] for side in range(2))]
    rows, hits = [], []
    for x, y in clips:
        tokens = [[value / math.hypot(*token) for value in token] for token in x + y]
        for i, token in enumerate(tokens):
            partner = (i + len(x)) % len(tokens)
            scores = {
                j: sum(p * q for p, q in zip(token, other, strict=True)) / temperature
                for j, other in enumerate(tokens)
                if j != i
            }
            rows.append(math.log(sum(math.exp(s) for s in scores.values())) - scores[partner])
            hits.append(max(scores, key=scores.get) == partner)
    return sum(rows) / len(rows), sum(hits) / len(hits)


EYE = torch.eye(2)


@pytest.mark.parametrize(
    ("a", "b", "temperature", "expected"),
    [
        (EYE, EYE, 1, 0.551445),
        (EYE, EYE.flip(0), 1, 1.551445),
        (EYE, EYE.flip(0), 0.07, 14.285716),
        (EYE, -EYE, 1, 1.861995),
        (EYE, -EYE, 0.07, 14.978862),
        (EYE, [[0.6, 0.8], [-0.8, 0.6]], 1, 0.802079),
        (EYE, [[0.6, 0.8], [-0.8, 0.6]], 0.5, 0.668040),
        (torch.eye(4), torch.eye(4), 0.5, 0.594438),
        (torch.ones(25, 3), torch.ones(25, 3), 0.07, 3.891820),
        (torch.ones(13, 3), torch.ones(13, 3), 0.07, 3.218876),
        (torch.ones(16, 3), torch.ones(16, 3), 0.07, 3.433987),
    ],
)
def test_closed_forms(a, b, temperature, expected):
    assert loss(a, b, temperature) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("length", "expected"), [(2, 1.2497e-6), (13, 1.49969e-5), (25, 2.99935e-5)])
def test_orthogonal_tokens(length, expected):
    assert loss(torch.eye(length), torch.eye(length), 0.07) == pytest.approx(expected, rel=1e-4)
    a = math.log1p((2 * length - 2) * math.exp(-1 / 0.3))
    assert loss(torch.eye(length), torch.eye(length), 0.3) == pytest.approx(a, rel=1e-9)


def test_totals_of_a_collapse_and_of_the_shortcut_by_slots():
    """Sixteen clips, 13 frames, 25 joints: every token equal, and one code for each slot whatever the clip."""
    whole = token_contrast(*torch.ones(2, 1, 1, 16, 4), 0.07)[0]
    collapsed, slots = whole.clone(), whole.clone()
    for length in (13, 25):
        collapsed += token_contrast(*torch.ones(2, 4, 16, length, 4), 0.07)[0].sum()
        slots += token_contrast(*torch.eye(length).expand(2, 4, 16, length, length), 0.07)[0].sum()
    assert collapsed.item() == pytest.approx(31.876772, abs=1e-5)
    assert slots.item() == pytest.approx(3.434167, abs=1e-5)


@pytest.mark.parametrize("negatives", ["within", "within+batch"])
def test_pairs_in_one_call_equal_the_slow_twin(negatives):
    a, b = torch.randn(2, 3, 4, 5, 6)
    found = token_contrast(a, b, 0.3, negatives)
    expected = torch.tensor([slow_twin(x, y, 0.3, negatives) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(torch.stack(found, 1), expected, rtol=1e-5, atol=1e-6)
    assert 0 < found[1].mean() < 1


def test_one_token_has_nothing_to_learn():
    a = torch.randn(1, 3, 1, 8, requires_grad=True)
    value, hits = token_contrast(a, torch.randn(1, 3, 1, 8), 0.07)
    value.sum().backward()
    assert value.item() == 0
    assert hits.item() == 1
    assert not a.grad.any()


def test_invariances():
    a, b = random(2, 4, 5, 6)
    expected = loss(a, b, 0.3)

    def same(value):
        return value == pytest.approx(expected, rel=1e-12)

    scale = torch.rand(2, 4, 5, 1, dtype=torch.float64) + 0.1
    assert same(loss(scale[0] * a, scale[1] * b, 0.3))
    rotation = torch.linalg.qr(random(6, 6)).Q
    assert same(loss(a @ rotation, b @ rotation, 0.3))
    order = torch.tensor([3, 0, 4, 1, 2])
    assert same(loss(a[:, order], b[:, order], 0.3))
    assert same(loss(b, a, 0.3))
    assert same(loss(a.flip(0), b.flip(0), 0.3))
    assert same(sum(loss(x, y, 0.3) for x, y in zip(a, b, strict=True)) / 4)
    assert not same(loss(a, b[:, order], 0.3))


def test_tokens_of_other_clips_are_negatives_when_asked():
    codes = torch.eye(5).expand(1, 3, 5, 5)
    within, across = (token_contrast(codes, codes, 0.07, how)[0].item() for how in ("within", "within+batch"))
    assert within < 1e-4
    assert across == pytest.approx(math.log(5), abs=1e-4), "the same code in three clips and two lists, less oneself"


def test_gradients_reach_both_sides_and_are_right():
    a, b = (random(2, 2, 3, 4).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, y: token_contrast(x, y, 0.5)[0], (a, b))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_similarities_stay_float32_under_autocast(dtype):
    a, b = torch.randn(2, 4, 3, 5, 16)
    expected = token_contrast(a, b, 0.07)[0]
    with torch.autocast("cpu", dtype):
        assert torch.equal(token_contrast(a, b, 0.07)[0], expected)
        assert token_contrast(a.to(dtype), b.to(dtype), 0.07)[0].dtype == torch.float32


def step(x, world):
    """Loss and gradient of one step of data-parallel training, of which this process sees the clips ``x``."""
    torch.manual_seed(1)
    layer = torch.nn.Linear(6, 8).double()
    a, b = (gather_with_gradient(layer(side)) for side in x)
    value = token_contrast(a[None, None], b[None, None], 0.2)[0].sum()
    value.backward()
    for p in layer.parameters():
        if world > 1:
            distributed.all_reduce(p.grad)
        p.grad /= world
    return [value.detach(), *(p.grad for p in layer.parameters())]


def rank_of_two(rank, x, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(step(x.chunk(2, 1)[rank], 2), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.posix("processes are forked")
def test_half_batches_on_two_processes_have_the_loss_and_the_gradient_of_the_whole(tmp_path):
    x = random(2, 8, 6)
    ranks = [get_context("fork").Process(target=rank_of_two, args=(rank, x, tmp_path)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        process.kill()
    expected = step(x, 1)
    assert all(value.abs().sum() > 0 for value in expected)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected)
