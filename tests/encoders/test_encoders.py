"""What every encoder promises, and the closed forms of each."""

import dataclasses
import math

import pytest
import torch

from skelcl.encoders import AGCN, CTRGCN, DSTA, HCN, LSTM, SCD, STGCN, Hyperformer, ViT
from skelcl.skeleton import KINECT20, NTU25

ENCODERS = [
    lambda skeleton, persons: LSTM(skeleton, persons, hidden=16),
    lambda skeleton, persons: CTRGCN(skeleton, persons, widths=(16, 32), strides=(1, 2)),
    lambda skeleton, persons: AGCN(skeleton, persons, widths=(16, 32), strides=(1, 2)),
    lambda skeleton, persons: STGCN(skeleton, persons, widths=(16, 32), strides=(1, 2)),
    lambda skeleton, persons: HCN(skeleton, persons, num_frames=16, hidden=8),
    lambda skeleton, persons: Hyperformer(skeleton, persons, width=12, heads=3, strides=(1, 2)),
    lambda skeleton, persons: DSTA(skeleton, persons, blocks=((8, 4, 1), (16, 4, 2))),
    lambda skeleton, persons: ViT(skeleton, persons, num_frames=16, dim=16, depth=2, heads=2),
    lambda skeleton, persons: SCD(skeleton, persons, num_frames=16, widths=(16, 16), dim=16, heads=2),
]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("make", ENCODERS)
@pytest.mark.parametrize("skeleton", [NTU25, KINECT20], ids=lambda s: s.name)
@pytest.mark.parametrize("persons", [1, 2])
def test_contract(make, skeleton, persons):
    encoder = make(skeleton, persons).eval()
    # Some paths are closed when training starts; every one must be open to gradients afterwards.
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(5, 3, 16, skeleton.num_joints, persons)
    features = encoder(x)
    assert features.shape == (5, encoder.dim)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(encoder(x[order]), features[order])
    features.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("make", ENCODERS)
def test_reset_redraws_every_weight_reproducibly(make):
    encoder = make(KINECT20, 1)
    fresh = {name: value.clone() for name, value in encoder.state_dict().items()}
    for value in encoder.state_dict().values():
        value.fill_(123)
    torch.manual_seed(5)
    encoder.reset_parameters()
    after = {name: value.clone() for name, value in encoder.state_dict().items()}
    for name, value in after.items():
        assert not (value == 123).any(), name
        if fresh[name].unique().numel() == 1:
            assert torch.equal(value, fresh[name]), f"{name} starts as a constant"
    torch.manual_seed(5)
    encoder.reset_parameters()
    assert all(torch.equal(value, after[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("joints", "persons", "hidden", "layers", "expected"),
    [(25, 2, 256, 1, 417_792), (15, 2, 128, 2, 244_736), (15, 1, 256, 1, 310_272), (20, 1, 256, 1, 325_632)],
)
def test_lstm_sizes_of_the_paper(joints, persons, hidden, layers, expected):
    names = tuple(f"joint {j}" for j in range(joints))
    skeleton = dataclasses.replace(
        NTU25,
        joints=names,
        parents=(0, *range(joints - 1)),
        pairs=(),
        parts={"all": tuple(range(joints))},
        center=0,
        across=(1, 2),
    )
    assert parameters(LSTM(skeleton, persons, hidden=hidden, layers=layers)) == expected


@pytest.mark.parametrize(("c", "v", "m", "feature"), [(0, 1, 0, 2), (1, 3, 1, 57), (2, 24, 1, 149)])
def test_lstm_flattens_channels_joints_persons(c, v, m, feature):
    encoder = LSTM(NTU25, num_persons=2)
    seen = {}
    encoder.lstm.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    x = torch.zeros(1, 3, 2, 25, 2)
    x[0, c, 1, v, m] = 1
    encoder(x)
    assert seen["x"].nonzero().tolist() == [[0, 1, feature]]


def test_lstm_with_one_open_gate():
    encoder = LSTM(KINECT20, hidden=8)
    for parameter in encoder.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        encoder.lstm.bias_ih_l0[16:24] = math.atanh(0.8)
    x = torch.randn(2, 3, 3, 20, 1)
    torch.testing.assert_close(encoder(x), torch.full((2, 8), 0.253561), rtol=0, atol=1e-6)
    encoder.pool = "last"
    torch.testing.assert_close(encoder(x), torch.full((2, 8), 0.302184), rtol=0, atol=1e-6)
    encoder.pool = "sum"
    torch.testing.assert_close(encoder(x), torch.full((2, 8), 3 * 0.253561), rtol=0, atol=3e-6)


def test_lstm_masked_mean_ignores_padding():
    encoder = LSTM(KINECT20, hidden=8, pool="masked_mean")
    x = torch.randn(2, 3, 6, 20, 1)
    x[1, :, 4:] = 0
    torch.testing.assert_close(encoder(x)[1:], encoder(x[1:, :, :4]))
    assert encoder(torch.zeros(1, 3, 6, 20, 1)).isfinite().all()
