"""What a checkpoint of a reference must be, on a toy whose layout is written by hand."""

import pytest
import torch
from torch import nn

from skelcl.errors import InputError
from skelcl.interop import load_reference
from skelcl.interop.key_mapping import KeyMapping, Pieces, batch_norm


class Toy(nn.Module):
    """Two layers of the reference are rows of one of ours, a column is split unevenly, a scalar is kept as one."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(2, 2, 3))
        self.columns = nn.Parameter(torch.zeros(2, 3))
        self.scalar = nn.Parameter(torch.zeros(()))
        self.bn = nn.BatchNorm1d(4)


LAYOUT = KeyMapping(
    {
        "rows": Pieces(("a", "b"), (4, 3, 1)),
        "columns": Pieces(("c", "d"), dim=1, sizes=(1, 2)),
        "scalar": Pieces(("e",), (1,)),
        **batch_norm("bn", "f", "g"),
    },
    frozenset({"position"}),
)


def state():
    half = torch.tensor([1.0, 2.0])
    batch_norms = {
        f"{name}.{key}": shift + half
        for name, shift in (("f", 0), ("g", 2))
        for key in ("weight", "bias", "running_mean", "running_var")
    }
    return {
        "a": torch.arange(6.0).reshape(2, 3, 1),
        "b": torch.arange(6.0, 12).reshape(2, 3, 1),
        "c": torch.tensor([[1.0], [2.0]]),
        "d": torch.tensor([[3.0, 4.0], [5.0, 6.0]]),
        "e": torch.tensor([7.0]),
        **batch_norms,
        "f.num_batches_tracked": torch.tensor(8),
        "g.num_batches_tracked": torch.tensor(8),
    }


def test_pieces_find_their_place():
    toy = Toy()
    LAYOUT.load(toy, state())
    assert toy.rows.flatten().tolist() == list(range(12))
    assert toy.columns.tolist() == [[1, 3, 4], [2, 5, 6]]
    assert toy.scalar == 7
    assert toy.bn.running_var.tolist() == [1, 2, 3, 4]
    assert toy.bn.num_batches_tracked == 8


def test_there_and_back():
    toy = Toy()
    LAYOUT.load(toy, state())
    back = LAYOUT.dump(toy)
    assert back.keys() == state().keys()
    assert all(torch.equal(back[key], value) for key, value in state().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_module_takes_the_precision_of_the_checkpoint(dtype):
    toy = Toy()
    LAYOUT.load(toy, {key: value.to(dtype) if value.dim() else value for key, value in state().items()})
    assert {p.dtype for p in toy.parameters()} == {dtype}
    assert toy.bn.num_batches_tracked.dtype == torch.int64


def test_constants_may_be_present():
    LAYOUT.load(Toy(), state() | {"position": torch.zeros(5)})


def test_every_misfit_is_listed_and_nothing_is_loaded():
    toy, wrong = Toy(), state() | {"a": torch.zeros(2, 3), "h": torch.zeros(1)}
    del wrong["d"], wrong["g.bias"]
    with pytest.raises(InputError) as error:
        LAYOUT.load(toy, wrong)
    for problem in (
        "d is missing",
        "g.bias is missing",
        "h is unexpected",
        "a has shape (2, 3) instead of (2, 3, 1)",
    ):
        assert problem in str(error.value)
    assert not toy.rows.any()


def test_unknown_network():
    with pytest.raises(InputError, match=r"no reference network 'st-gcn'; known are .*ctr-gcn"):
        load_reference("st-gcn", {})


def test_unknown_skeleton():
    with pytest.raises(InputError, match=r"no skeleton 'ntu20'; known are .*ntu25"):
        load_reference("ctr-gcn", {}, skeleton="ntu20")


def test_a_checkpoint_of_another_network_is_refused(golden):
    with pytest.raises(InputError, match=r"l1\.gcn1\.alpha is missing.*l1\.gcn1\.conv_a\.0\.weight is unexpected"):
        load_reference("ctr-gcn", golden("agcn-ntu").weights)


def test_a_linear_layer_of_other_size_is_refused(golden):
    with pytest.raises(InputError, match=r"fc\.weight has shape \(60, 256\) instead of \(120, 256\)"):
        load_reference("2s-agcn", golden("agcn-ntu").weights, num_classes=120)
