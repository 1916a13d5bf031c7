"""Absent bodies: one stands for all of its slot, and nobody can tell."""

import pytest
import torch

from skelcl.encoders import AGCN, CTRGCN
from skelcl.errors import InputError
from skelcl.skeleton import KINECT20, NTU25


def trained(make, persons):
    """An encoder with the weights and statistics of no particular moment, slots apart."""
    encoder = make(KINECT20, persons, widths=(8, 8), strides=(1, 2)).double()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, 0.2, 0.4)
    for name, value in encoder.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return encoder.eval()


def clips(absent):
    x = torch.randn(len(absent), 3, 6, 20, len(absent[0]), dtype=torch.float64)
    return x * ~torch.tensor(absent)[:, None, None, None]


def rows(encoder):
    """Numbers of bodies that the network saw, call by call."""
    seen = []
    encoder.blocks.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    return seen


ABSENT = {
    "nobody": ([[False, False]] * 3, 6),
    "some": ([[False, True], [False, False], [False, True], [True, False]], 7),
    "a clip is empty": ([[False, True], [True, True], [False, True]], 4),
    "all clips are empty": ([[True, True]] * 3, 2),
    "one body": ([[False], [True], [True], [False]], 3),
    "one body, all empty": ([[True]] * 3, 1),
    "three bodies": ([[False, True, True], [False, False, True]], 5),
}


@pytest.mark.parametrize("make", [CTRGCN, AGCN])
@pytest.mark.parametrize("case", ABSENT)
def test_absent_bodies_share_one_map(make, case):
    absent, distinct = ABSENT[case]
    encoder, x = trained(make, len(absent[0])), clips(absent)
    plain, features = encoder.with_map(x)
    seen = rows(encoder)
    with torch.no_grad():
        shared, same = encoder.with_map(x)
    assert seen == [distinct]
    torch.testing.assert_close(shared, plain.detach())
    torch.testing.assert_close(same, features.detach())
    torch.testing.assert_close(encoder(x).detach(), features.detach())


@pytest.mark.slow
@pytest.mark.parametrize("make", [CTRGCN, AGCN])
def test_compiled_code_is_one_graph(make):
    absent, _ = ABSENT["some"]
    encoder, x = trained(make, 2), clips(absent)
    with torch.no_grad():
        compiled = torch.compile(encoder, fullgraph=True, backend="eager")(x)
        torch.testing.assert_close(compiled, encoder(x))


@pytest.mark.parametrize("make", [CTRGCN, AGCN])
def test_training_sees_every_body(make):
    absent, _ = ABSENT["some"]
    encoder, twin, x = (
        trained(make, 2).train(),
        make(KINECT20, 2, widths=(8, 8), strides=(1, 2)).double(),
        clips(absent),
    )
    twin.load_state_dict(encoder.state_dict())
    seen = rows(encoder)
    with torch.no_grad():
        features = encoder(x)
    torch.testing.assert_close(features, twin(x).detach())
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[name], value)
    encoder.eval()(x).sum().backward()
    assert seen == [8, 8]


@pytest.mark.parametrize("make", [CTRGCN, AGCN])
def test_a_slot_has_statistics_of_its_own(make):
    """Channel (m·V + v)·C + c of the batch norm is coordinate c of joint v of body m."""
    encoder, x = make(KINECT20, 2, widths=(8,), strides=(1,)), torch.randn(4, 3, 6, 20, 2)
    with torch.no_grad():
        encoder(x)
    expected = torch.stack([x[:, c, :, v, m].mean() for m in range(2) for v in range(20) for c in range(3)])
    torch.testing.assert_close(encoder.data_bn.running_mean, 0.1 * expected)


@pytest.mark.parametrize(
    "shape", [(2, 2, 6, 25, 2), (2, 3, 6, 20, 2), (2, 3, 6, 25, 1)], ids=["channels", "joints", "persons"]
)
def test_other_clips_are_refused(shape):
    encoder = CTRGCN(NTU25, 2, widths=(8,), strides=(1,))
    found = rf"CTRGCN was made for .* \(3, 25, 2\), the clips have \({shape[1]}, {shape[3]}, {shape[4]}\)"
    with pytest.raises(InputError, match=found):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize("classes", [10, 120])
def test_classifier_starts_as_in_the_papers(classes):
    layer = AGCN(KINECT20, 1, widths=(1024,), strides=(1,)).classifier(classes)
    assert layer.weight.shape == (classes, 1024)
    assert layer.weight.std().item() == pytest.approx((2 / classes) ** 0.5, rel=0.03)
    assert 0 < layer.bias.abs().max() <= 1024**-0.5
