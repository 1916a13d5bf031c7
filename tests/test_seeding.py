import torch

from skelcl.seeding import generator, seeded


def draw(*key):
    return torch.rand(4, generator=generator(*key))


def test_equal_keys_give_equal_numbers_whatever_the_global_state():
    first = draw("views", 0, 1, 2)
    torch.manual_seed(99)
    assert torch.equal(draw("views", 0, 1, 2), first)


def test_any_other_key_gives_other_numbers(monkeypatch):
    keys = [("views", 0, 1, 2), ("views", 1, 0, 2), ("views", 0, 1, 3), ("shuffle", 0, 1, 2), ("shuffle", 0)]
    drawn = [draw(*key) for key in keys]
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    drawn += [draw(*key) for key in keys]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_global_randomness_is_seeded_within_a_block_only():
    before = torch.get_rng_state()
    with seeded("dropout", 1):
        first = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    with seeded("dropout", 1):
        assert torch.equal(torch.rand(4), first)
    with seeded("dropout", 2):
        assert not torch.equal(torch.rand(4), first)
