"""Temporal convolutions: the form with two batch norms is the published form with seven."""

import math

import pytest
import torch
from torch import nn

from skelcl.errors import InputError
from skelcl.nn.temporal import MultiScaleTemporal, TemporalConv, frame_maximum, kaiming_, shortcut


class Branches(nn.Module):
    """The published form: four branches one after the other, seven batch norms, the last branch strided."""

    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        width = channels_out // 4

        def point(stride=1):
            return nn.Conv2d(channels_in, width, 1, (stride, 1))

        def temporal(dilation):
            return nn.Conv2d(width, width, (5, 1), (stride, 1), (2 * dilation, 0), (dilation, 1))

        def bn():
            return nn.BatchNorm2d(width)

        self.branches = nn.ModuleList(
            [
                nn.Sequential(point(), bn(), nn.ReLU(), temporal(1), bn()),
                nn.Sequential(point(), bn(), nn.ReLU(), temporal(2), bn()),
                nn.Sequential(point(), bn(), nn.ReLU(), nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), bn()),
                nn.Sequential(point(stride), bn()),
            ]
        )

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)

    def copy(self, fused):
        """Take the weights of the form with two batch norms."""
        a, b, c, d = self.branches
        state = {name: value.chunk(3) for name, value in fused.reduce.state_dict().items()}
        for i, branch in enumerate((a, b, c)):
            branch[0].load_state_dict({name: value[i] for name, value in state.items()})
        a[3].load_state_dict(fused.near.state_dict())
        b[3].load_state_dict(fused.far.state_dict())
        d[0].load_state_dict(fused.point.state_dict())
        for theirs, ours in (((a[1], b[1], c[1]), fused.reduce_bn), ((a[4], b[4], c[4], d[1]), fused.bn)):
            for i, bn in enumerate(theirs):
                for name, value in ours.state_dict().items():
                    bn.state_dict()[name].copy_(value.chunk(len(theirs))[i] if value.dim() else value)

    def batch_norms(self):
        a, b, c, d = self.branches
        return (a[1], b[1], c[1]), (a[4], b[4], c[4], d[1])


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [7, 8])
def test_two_batch_norms_are_seven(stride, frames, order):
    fused = MultiScaleTemporal(6, 16, stride).double()
    for parameter in fused.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)
    twin = Branches(6, 16, stride).double()
    twin.copy(fused)
    for _ in range(3):
        x = torch.randn(3, 6, frames, 5, dtype=torch.float64).contiguous(memory_format=order)
        ours, theirs = (x.clone().requires_grad_(), x.clone().requires_grad_())
        y, expected = fused(ours), twin(theirs)
        torch.testing.assert_close(y, expected)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        (expected * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad)
        assert y.is_contiguous(memory_format=order)
        assert ours.grad.is_contiguous(memory_format=order)
    for mine, its in zip((fused.reduce_bn, fused.bn), twin.batch_norms(), strict=True):
        assert {bn.num_batches_tracked.item() for bn in its} == {mine.num_batches_tracked.item()} == {3}
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(getattr(mine, name), torch.cat([getattr(bn, name) for bn in its]))
    fused.eval()
    twin.eval()
    torch.testing.assert_close(fused(x), twin(x))


def test_scales_of_the_initialisation_are_those_of_the_single_branches():
    """Fan-out of a branch of width 64 is 64 (or 5·64), not that of the fused convolutions."""
    module = MultiScaleTemporal(256, 256)
    for conv, kernel in ((module.reduce, 1), (module.point, 1), (module.near, 5), (module.far, 5)):
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * kernel)), rel=0.03)
        assert not conv.bias.any()
    for bn in (module.reduce_bn, module.bn):
        assert bn.weight.mean().item() == pytest.approx(1, abs=0.01)
        assert bn.weight.std().item() == pytest.approx(0.02, rel=0.3)
        assert not bn.bias.any()


def test_channels_must_fall_into_four():
    with pytest.raises(InputError, match="10 channels: use a multiple of 4"):
        MultiScaleTemporal(8, 10)


@pytest.mark.parametrize(("stride", "frames", "expected"), [(1, 7, 7), (2, 7, 4), (2, 8, 4), (2, 1, 1)])
@pytest.mark.parametrize("kernel", [1, 9])
def test_frames_of_a_temporal_convolution(stride, frames, expected, kernel):
    assert TemporalConv(3, 4, stride, kernel)(torch.randn(2, 3, frames, 5)).shape == (2, 4, expected, 5)


def test_temporal_convolution_mixes_the_frames_of_one_joint():
    module = TemporalConv(2, 3).eval()
    x = torch.zeros(1, 2, 21, 4)
    x[0, 0, 10, 2] = 1
    answer = module(x)[0]
    expected = torch.zeros(3, 21, 4)
    expected[:, 6:15, 2] = module.conv.weight[:, 0, :, 0].flip(1) / math.sqrt(1 + module.bn.eps)
    torch.testing.assert_close(answer, expected)


def test_kaiming_of_stacked_layers_is_that_of_each():
    conv = nn.Conv2d(64, 600, 1)
    kaiming_(conv, pieces=3)
    for weight in conv.weight.chunk(3):
        assert weight.std().item() == pytest.approx(math.sqrt(2 / 200), rel=0.03)


def test_shortcut_is_the_input_where_it_can_be():
    assert isinstance(shortcut(8, 8), nn.Identity)
    x = torch.randn(4, 8, 7, 5)
    for channels, stride in ((8, 2), (4, 1)):
        module = shortcut(8, channels, stride)
        expected = module.bn(torch.einsum("nctv,oc->notv", x[:, :, ::stride], module.conv.weight[:, :, 0, 0]))
        torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 7, 8])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_maximum_is_that_of_pooling_in_values_and_gradients(stride, frames, ties, order):
    x = torch.randn(3, 4, frames, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = (2 * x).round().relu() if ties else x
    x = x.contiguous(memory_format=order)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    pooled = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))(inputs[0])
    found = frame_maximum(inputs[1], stride)
    gradient = torch.randn(pooled.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for y in (pooled, found):
        y.backward(gradient)
    assert torch.equal(found, pooled)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=0, atol=1e-14)
    with torch.no_grad():
        assert torch.equal(frame_maximum(x, stride), pooled)
