import itertools
import math

import pytest
import torch
from torch import nn

from skelcl.nn import Bank, Ema, Projector, Queue


def filled(value):
    layer = nn.Linear(3, 2)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, value)
    return layer


def test_twin_starts_equal_frozen_and_apart():
    layer = nn.Linear(3, 2)
    twin = Ema(layer)
    for mine, its in zip(layer.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, its)
        assert mine.data_ptr() != its.data_ptr()
        assert not its.requires_grad
    assert not twin(torch.randn(1, 3)).requires_grad


@pytest.mark.parametrize(
    ("momentum", "sources", "expected"),
    [(0.999, (1, 1, 1), (0.001, 0.001999, 0.002997001)), (0.9, (1, 2, 3), (0.1, 0.29, 0.561))],
)
def test_twin_follows(momentum, sources, expected):
    twin = Ema(filled(0.0), momentum)
    for source, value in zip(sources, expected, strict=True):
        twin.update(filled(float(source)))
        for parameter in twin.parameters():
            torch.testing.assert_close(parameter, torch.full_like(parameter, value), rtol=1e-6, atol=0)


def test_twin_of_equal_weights_does_not_move():
    layer = nn.Linear(50, 50)
    twin = Ema(layer, 0.999)
    twin.update(layer)
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), twin.parameters(), strict=True))


def rows(start, count):
    return torch.arange(start, start + count, dtype=torch.float32)[:, None].expand(-1, 2), torch.arange(
        start, start + count
    )


def test_queue_wraps():
    queue = Queue(5, 2)
    before = queue.keys.clone()
    queue.push(*rows(1, 3))
    assert queue.pointer == 3
    assert queue.keys[:3, 0].tolist() == [1, 2, 3]
    assert torch.equal(queue.keys[3:], before[3:])
    queue.push(*rows(11, 3))
    assert queue.pointer == 1
    assert queue.keys[:, 0].tolist() == [13, 2, 3, 11, 12]
    queue.push(*rows(21, 2))
    assert queue.pointer == 3
    assert queue.keys[:, 0].tolist() == [13, 21, 22, 11, 12]
    assert queue.index.tolist() == [13, 21, 22, 11, 12]


@pytest.mark.parametrize("batch", [1, 3, 5, 7, 12])
def test_queue_equals_a_ring_written_one_key_at_a_time(batch):
    queue, ring, pointer = Queue(5, 2), [None] * 5, 0
    for step in range(7):
        keys, index = rows(100 * step, batch)
        queue.push(keys, index)
        for value in keys[:, 0].tolist():
            ring[pointer] = value
            pointer = (pointer + 1) % 5
        assert queue.pointer == pointer
        if step * batch >= 5:
            assert queue.keys[:, 0].tolist() == ring


def test_queue_starts_as_the_reference_does():
    queue = Queue(16384, 256)
    assert queue.keys.abs().max().item() <= math.sqrt(3 / 256) + 1e-8
    assert queue.keys.norm(dim=1).mean().item() == pytest.approx(1.0, abs=2e-3)


def test_queue_of_directions_starts_on_the_sphere():
    queue = Queue(4096, 16, unit=True)
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(4096))
    # Every coordinate has mean 0 and variance 1/16.
    assert queue.keys.mean(0).abs().max() < 5 * (1 / 16 / 4096) ** 0.5
    assert queue.keys.var(0).tolist() == pytest.approx([1 / 16] * 16, rel=0.15)


@pytest.mark.parametrize(
    ("size", "clips", "pointer"),
    [(16384, 37646, 4878), (16384, 40091, 7323), (16384, 63026, 13874), (16384, 54468, 5316)],
)
def test_pointer_after_one_epoch(size, clips, pointer):
    queue = Queue(size, 1)
    for start in range(0, clips, 4096):
        count = min(4096, clips - start)
        queue.push(torch.ones(count, 1), torch.ones(count, dtype=torch.int64))
    assert queue.pointer == pointer


def test_everything_is_in_the_state():
    queue, copy = Queue(5, 2), Queue(5, 2)
    queue.push(*rows(1, 7))
    copy.load_state_dict(queue.state_dict())
    assert torch.equal(copy.keys, queue.keys)
    assert copy.pointer == queue.pointer == 2


@pytest.mark.parametrize(("kind", "dim", "weights"), [("none", 8, 0), ("linear", 512, 1), ("mlp", 512, 2)])
def test_projector(kind, dim, weights):
    head = Projector(8, kind)
    assert head.dim == dim == head(torch.randn(3, 8)).shape[1]
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) == weights
    assert all(layer.weight.std().item() == pytest.approx(0.01, rel=0.3) for layer in layers)


def test_bank_holds_the_directions_of_what_was_written():
    bank = Bank(torch.tensor([0, 0, 1, 2, 1]), 2)
    assert len(bank) == 5
    bank.write(torch.tensor([[3.0, 4], [0, -2]]), torch.tensor([3, 0]))
    assert torch.allclose(bank.features, torch.tensor([[0.0, -1], [0, 0], [0, 0], [0.6, 0.8], [0, 0]]))
    assert bank.filled.tolist() == [True, False, False, True, False]
    bank.write(torch.tensor([[1.0, 0]]), torch.tensor([3]))
    assert torch.allclose(bank.features[3], torch.tensor([1.0, 0]))
    assert bank.filled.sum() == 2
    assert not bank.features.requires_grad


def test_bank_takes_the_first_of_two_for_the_same_slot():
    bank = Bank(torch.zeros(3, dtype=torch.int64), 2)
    bank.write(torch.tensor([[1.0, 0], [0, 1], [0, -1], [-1, 0]]), torch.tensor([2, 1, 2, 1]))
    assert bank.features.tolist() == [[0, 0], [0, 1], [1, 0]]


def test_bank_is_in_the_state_and_stays_float32():
    label = torch.tensor([0, 1, 1])
    bank, copy = Bank(label, 4), Bank(torch.zeros_like(label), 4)
    bank.write(torch.randn(2, 4).bfloat16(), torch.tensor([2, 0]))
    copy.load_state_dict(bank.state_dict())
    assert bank.features.dtype == torch.float32
    assert torch.allclose(bank.features[[0, 2]].norm(dim=1), torch.ones(2))
    for name in ("features", "label", "filled", "members"):
        assert torch.equal(getattr(copy, name), getattr(bank, name))


def test_bank_lists_the_slots_of_each_class():
    assert Bank(torch.tensor([3, 0, 1, 0, 1, 0]), 2).members.tolist() == [[1, 3, 5], [2, 4, -1], [-1] * 3, [0, -1, -1]]


def test_a_bank_serves_when_every_class_finds_enough():
    """Counted class by class, for every set of filled slots; a class that has no slot at all does not count."""
    label = [3, 0, 1, 0, 1, 0]
    bank = Bank(torch.tensor(label), 2)
    for full in itertools.product((False, True), repeat=6):
        bank.filled = torch.tensor(full)
        written = [own for own, on in zip(label, full, strict=True) if on]
        for positives, negatives in ((1, 1), (1, 4), (2, 1)):
            mine = [written.count(own) for own in set(label)]
            expected = all(count >= positives and len(written) - count >= negatives for count in mine)
            assert bank.serves(positives, negatives) == expected


@pytest.mark.parametrize("filled", [0, 1, 4, 9, 30])
def test_candidates_are_read_round_the_filled_slots(filled):
    """Against a list that is walked; wherever an anchor starts, it meets K negatives if there are as many."""
    bank = Bank(torch.arange(30) % 4 % 3, 2)
    bank.filled[torch.randperm(30)[:filled]] = True
    order, start = torch.randperm(30), torch.tensor([0.0, 0.5, 1 - 2**-24])
    found = bank.candidates(order, start, 5)
    assert found.shape == (3, 5 + 15)
    some, none = ([slot for slot in order.tolist() if bank.filled[slot] == full] for full in (True, False))
    for row, place in zip(found.tolist(), (0, filled // 2, max(filled - 1, 0)), strict=True):
        assert row == (some[place:] + some[:place] + none)[:20]
        for label in range(3):
            there = bank.filled & (bank.label != label)
            assert there[row].sum() >= min(5, there.sum())


def test_candidates_are_a_uniform_draw_without_replacement():
    """Each ordered pair of first negatives is as frequent as any other."""
    bank = Bank(torch.tensor([0, 0, 1, 1, 2, 2, 2]), 2)
    bank.filled[:6] = True
    count = torch.zeros(7, 7)
    for _ in range(4000):
        (row,) = bank.candidates(torch.randperm(7), torch.rand(1), 2)
        first, second = row[bank.filled[row] & (bank.label[row] != 1)][:2]
        count[first, second] += 1
    pairs = count[[0, 0, 0, 1, 1, 1, 4, 4, 4, 5, 5, 5], [1, 4, 5, 0, 4, 5, 0, 1, 5, 0, 1, 4]]
    assert pairs.sum() == 4000
    # Sum of squared deviations: χ² of 11 degrees of freedom, above 36 in 2 of 10,000 runs of other seeds.
    assert ((pairs - 4000 / 12) ** 2 / (4000 / 12)).sum() < 36
