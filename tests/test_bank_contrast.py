"""The contrast with a bank of labelled features: by hand, against a slow twin, and the properties it must have."""

import math

import pytest
import torch
from torch.nn import functional as F

from skelcl.losses import bank_contrast, largest
from skelcl.nn import Bank


def members(bank_label):
    return Bank(bank_label, 1).members


def slow_rows(anchor, label, bank, members, filled, candidates, positives, negatives, temperature, own=None):
    """Anchor after anchor, positive after positive, with the softmax written out, in float64."""
    rows = []
    for i, f in enumerate(anchor.double()):
        f = f / f.norm()
        similarity = [float(f @ bank[slot].double()) for slot in range(len(bank))]
        same = members[label[i]].tolist()
        alike = [s for slot, s in enumerate(similarity) if filled[slot] and slot in same]
        if own is not None and filled[own[i]]:
            alike.remove(similarity[own[i]])
        unlike = {slot: s for slot, s in enumerate(similarity) if filled[slot] and slot not in same}
        if len(alike) < positives or len(unlike) < negatives:
            rows.append(None)
            continue
        near = sorted(alike)[:positives]
        hard = sorted(unlike.values(), reverse=True)[:negatives]
        drawn = [unlike[slot] for slot in candidates[i].tolist() if slot in unlike][:negatives]
        total = 0.0
        for s in near:
            for chosen in (hard, drawn):
                top = math.exp(s / temperature)
                total -= math.log(top / (top + sum(math.exp(q / temperature) for q in chosen)))
        rows.append(total / (2 * positives))
    return rows


def batch(n=6, slots=40, classes=3, dim=5, seed=0, empty=0.2):
    random = torch.Generator().manual_seed(seed)
    bank_label = torch.randint(classes, (slots,), generator=random)
    return {
        "anchor": 3 * torch.randn(n, dim, generator=random),
        "label": torch.randint(classes, (n,), generator=random),
        "bank": F.normalize(torch.randn(slots, dim, generator=random), dim=1),
        "members": members(bank_label),
        "filled": torch.rand(slots, generator=random) >= empty,
        "candidates": torch.rand(n, slots, generator=random).argsort(1),
    }


HAND = {
    "anchor": torch.tensor([[2.0, 0]]),
    "label": torch.tensor([0]),
    "bank": torch.tensor([[1.0, 0], [0.6, 0.8], [0, 1], [-1, 0]]),
    "members": torch.tensor([[0, 1], [2, 3]]),
    "filled": torch.ones(4, dtype=torch.bool),
    "candidates": torch.tensor([[1, 2, 3, 0]]),
    "temperature": 0.5,
}


@pytest.mark.parametrize(("positives", "expected"), [(1, 0.294129), (2, 0.218530)])
def test_one_anchor_by_hand(positives, expected):
    rows, valid = bank_contrast(**HAND, positives=positives, negatives=2)
    assert valid.tolist() == [True]
    assert rows.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("positives", "negatives", "change"),
    [
        (3, 2, {}),
        (1, 3, {}),
        (5, 9, {}),
        (2, 2, {"own": torch.tensor([0])}),
        (2, 2, {"filled": torch.tensor([True, False, True, True])}),
        (1, 2, {"filled": torch.tensor([True, True, True, False])}),
    ],
)
def test_an_anchor_without_enough_slots_costs_exactly_nothing(positives, negatives, change):
    anchor = torch.tensor([[2.0, 0.5]], requires_grad=True)
    rows, valid = bank_contrast(**{**HAND, **change, "anchor": anchor}, positives=positives, negatives=negatives)
    rows.sum().backward()
    assert valid.tolist() == [False]
    assert rows.tolist() == [0]
    assert anchor.grad.tolist() == [[0, 0]]


def at(*similarities):
    """Unit vectors of the plane with these similarities to (1, 0)."""
    return torch.tensor([[s, math.sqrt(1 - s * s)] for s in similarities])


@pytest.mark.parametrize(("positive", "expected"), [(0.5, 0.501518), (0.2, 0.782352)])
def test_one_positive_against_two_negatives(positive, expected):
    bank = {"bank": at(positive, 0.1, -0.3), "members": torch.tensor([[0, -1], [1, 2]])}
    rest = {"filled": torch.ones(3, dtype=torch.bool), "candidates": torch.randperm(3)[None]}
    rows, _ = bank_contrast(**{**HAND, **bank, **rest}, positives=1, negatives=2)
    assert rows.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("positive", "negative", "temperature", "k", "expected"),
    [
        (0.3, 0.3, 0.8, 1, 0.693147),
        (0.3, 0.3, 0.8, 4, 1.609438),
        (0.3, 0.3, 0.8, 512, 6.240276),
        (1, 0, 0.8, 4, 0.763615),
        (1, 0, 0.8, 512, 4.995119),
        (1, 0, 0.5, 512, 4.252653),
        (1, 0, 0.1, 512, 0.022979),
    ],
)
def test_closed_forms_of_equal_negatives(positive, negative, temperature, k, expected):
    bank = torch.cat([at(positive).expand(3, 2), at(negative).expand(k, 2)])
    rows, _ = bank_contrast(
        anchor=torch.tensor([[1.0, 0]]),
        label=torch.tensor([0]),
        bank=bank,
        members=members(torch.cat([torch.zeros(3), torch.ones(k)]).long()),
        filled=torch.ones(k + 3, dtype=torch.bool),
        candidates=torch.randperm(k + 3)[None],
        positives=3,
        negatives=k,
        temperature=temperature,
    )
    assert rows.item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (4, 7), (10, 15), (12, 20)])
def test_it_equals_its_slow_twin(positives, negatives, own):
    given = batch()
    if own:
        given["own"] = given["members"][given["label"], 0]
    options = {"positives": positives, "negatives": negatives, "temperature": 0.8}
    rows, valid = bank_contrast(**given, **options)
    for row, ok, expected in zip(rows, valid, slow_rows(**given, **options), strict=True):
        assert ok == (expected is not None)
        assert row.item() == pytest.approx(expected or 0.0, rel=1e-6)


def test_the_twin_meets_both_valid_and_invalid_anchors():
    """The comparison above is one of something: in the largest setting some anchors are valid and some are not."""
    _, valid = bank_contrast(**batch(), positives=10, negatives=15, temperature=0.8)
    assert 0 < valid.sum() < len(valid)


def test_invalid_anchors_do_not_disturb_the_gradient_of_valid_ones():
    given = batch()
    options = {"positives": 10, "negatives": 15, "temperature": 0.8}
    anchor = given["anchor"].requires_grad_()
    rows, valid = bank_contrast(**given, **options)
    (whole,) = torch.autograd.grad(rows.sum(), anchor)
    chosen = {name: given[name][valid] for name in ("anchor", "label", "candidates")}
    rows, _ = bank_contrast(**{**given, **chosen}, **options)
    (alone,) = torch.autograd.grad(rows.sum(), chosen["anchor"])
    torch.testing.assert_close(whole[valid], alone)
    assert whole[~valid].eq(0).all()


@pytest.mark.parametrize("k", [1, 3, 7, 40, 203])
@pytest.mark.parametrize("slots", [203, 204])
def test_the_largest_of_many_are_those_that_a_sort_finds(k, slots):
    x = torch.randn(5, slots)
    x[1, :150], x[2, 4::3], x[3, 7] = -torch.inf, 2.0, torch.nan
    values, places = largest(x.T.contiguous(), k)
    assert all(len(row.unique()) == k for row in places)
    torch.testing.assert_close(x.gather(1, places), values, rtol=0, atol=0, equal_nan=True)
    found = values.sort(1, descending=True).values
    torch.testing.assert_close(found, x.sort(1, descending=True).values[:, :k], rtol=0, atol=0, equal_nan=True)


def test_the_gradient_is_that_of_the_softmax_over_every_pair():
    """Autograd through all similarities of one anchor after the other, in float64; some anchors are invalid."""
    given, (positives, negatives) = batch(slots=200, classes=6), (22, 20)
    anchor = given["anchor"].requires_grad_()
    rows, valid = bank_contrast(**given, positives=positives, negatives=negatives, temperature=0.8)
    weight = torch.rand(len(rows))
    (found,) = torch.autograd.grad(rows @ weight, anchor)
    assert 0 < valid.sum() < len(valid)
    total = 0.0
    for i in valid.nonzero().flatten():
        s = given["bank"].double() @ F.normalize(anchor[i].double(), dim=0) / 0.8
        same = torch.isin(torch.arange(200), given["members"][given["label"][i]])
        alike, unlike = same & given["filled"], ~same & given["filled"]
        near = s[alike].sort().values[:positives]
        order = given["candidates"][i]
        drawn = order[unlike[order]][:negatives]
        for others in (s[unlike].sort(descending=True).values[:negatives], s[drawn]):
            logits = torch.cat([near[:, None], others.expand(positives, -1)], 1)
            total = total - weight[i] * logits.log_softmax(1)[:, 0].mean() / 2
    (expected,) = torch.autograd.grad(total, anchor)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_a_broken_anchor_is_seen():
    given = batch()
    given["anchor"][2, 1] = torch.nan
    rows, valid = bank_contrast(**given, **OPTIONS)
    assert valid[2]
    assert rows.isnan().nonzero().tolist() == [[2]]
    given["filled"] &= torch.isin(torch.arange(40), given["members"][given["label"][2]])  # leaves it no negative
    rows, valid = bank_contrast(**given, **OPTIONS)
    assert not valid[2]
    assert rows[2] == 0


OPTIONS = {"positives": 4, "negatives": 6, "temperature": 0.8}


def test_only_directions_count():
    given = batch()
    rows, _ = bank_contrast(**given, **OPTIONS)
    longer, _ = bank_contrast(**{**given, "anchor": 7.5 * given["anchor"]}, **OPTIONS)
    torch.testing.assert_close(longer, rows)
    turn, _ = torch.linalg.qr(torch.randn(5, 5))
    turned, _ = bank_contrast(**{**given, "anchor": given["anchor"] @ turn, "bank": given["bank"] @ turn}, **OPTIONS)
    torch.testing.assert_close(turned, rows)


def test_the_gradient_is_orthogonal_to_the_anchor_and_leaves_the_bank_alone():
    given = batch()
    anchor, bank = given["anchor"].requires_grad_(), given["bank"]
    rows, _ = bank_contrast(**given, **OPTIONS)
    rows.sum().backward()
    radial = (anchor * anchor.grad).sum(1)
    assert anchor.grad.norm(dim=1).min() > 1e-3
    assert radial.abs().max() < 1e-6
    assert bank.grad is None


def test_the_order_of_the_slots_means_nothing():
    given = batch()
    order = torch.randperm(40)
    moved = {name: given[name][order] for name in ("bank", "filled")}
    place = order.argsort()
    moved["members"] = torch.where(given["members"] >= 0, place[given["members"]], -1)
    rows, _ = bank_contrast(**given, **OPTIONS)
    same, _ = bank_contrast(**{**given, **moved, "candidates": place[given["candidates"]]}, **OPTIONS)
    torch.testing.assert_close(same, rows)


def test_hard_negatives_cost_no_less_than_random_ones():
    given = batch()
    hard = (F.normalize(given["anchor"], dim=1) @ given["bank"].T).argsort(1, descending=True)
    rows, valid = bank_contrast(**given, **OPTIONS)
    hardest, _ = bank_contrast(**{**given, "candidates": hard}, **OPTIONS)
    assert valid.any()
    assert (hardest >= rows).all()
    assert (hardest > rows)[valid].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_stays_float32_under_autocast(dtype):
    given = batch()
    expected, _ = bank_contrast(**given, **OPTIONS)
    with torch.autocast("cpu", dtype):
        found, _ = bank_contrast(**given, **OPTIONS)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_descent_brings_classes_together_and_apart():
    """Free vectors, a bank of themselves: the gap between similarities within and across classes opens."""
    label = torch.arange(3).repeat(10)
    vectors = torch.randn(30, 5, requires_grad=True)
    bank = Bank(label, 5)
    optimizer = torch.optim.SGD([vectors], lr=2.0)

    def gap():
        unit = F.normalize(vectors.detach(), dim=1)
        similarity, same = unit @ unit.T, label[:, None] == label
        return (similarity[same].mean() - similarity[~same].mean()).item()

    before = gap()
    for _ in range(100):
        bank.write(vectors, torch.arange(30))
        candidates = bank.candidates(torch.randperm(30), torch.rand(30), 10)
        rows, _ = bank_contrast(vectors, label, bank.features, bank.members, bank.filled, candidates, 5, 10, 0.8)
        optimizer.zero_grad()
        rows.mean().backward()
        optimizer.step()
    assert before < 0.3
    assert gap() > 0.9


@pytest.mark.gpu
def test_the_device_is_never_waited_for():
    bank = Bank(torch.arange(40) % 3, 5).cuda()
    bank.write(torch.randn(30, 5, device="cuda"), torch.arange(30, device="cuda"))
    random = torch.Generator("cuda")
    given = {name: value.cuda() for name, value in batch().items()}
    given["anchor"].requires_grad_()
    own = given["members"][given["label"], 0]
    bank_contrast(**given, **OPTIONS)[0].sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        order = torch.randperm(40, generator=random, device="cuda")
        start = torch.rand(6, generator=random, device="cuda")
        candidates = bank.candidates(order, start, 6)
        rows, _ = bank_contrast(**given, own=own, **OPTIONS)
        rows.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(candidates.cpu(), bank.cpu().candidates(order.cpu(), start.cpu(), 6))
    on_cpu = {name: value.detach().cpu() for name, value in given.items()}
    expected, _ = bank_contrast(**on_cpu, own=own.cpu(), **OPTIONS)
    torch.testing.assert_close(rows.detach().cpu(), expected, rtol=1e-5, atol=1e-6)
