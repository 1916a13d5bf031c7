"""HCN against a twin that follows the published order of operations, one clip and one body at a time."""

import pytest
import torch
import torch.nn.functional as F

from skelcl.encoders.hcn import HCN, difference
from skelcl.errors import InputError
from skelcl.skeleton import COCO17, KINECT20, NTU25


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def twin_motion(x):
    """Forward differences of x (C, T, V), resized with half-pixel centres, sample by sample."""
    moved = x[:, 1:] - x[:, :-1]
    old, new = moved.shape[1], x.shape[1]
    out = torch.zeros_like(x)
    for t in range(new):
        source = max((t + 0.5) * old / new - 0.5, 0.0)
        low = int(source)
        high = min(low + 1, old - 1)
        out[:, t] = (1 - source + low) * moved[:, low] + (source - low) * moved[:, high]
    return out


def twin(encoder, x):
    """The three maps and the features of HCN without dropout; activation before pooling, as published."""

    def conv(layer, y):
        return F.conv2d(y, layer.weight, layer.bias, padding=layer.padding)

    features, conv2, conv4cat, conv6 = [], [], [], []
    for clip in x:
        points, cats, tops = [], [], []
        for m in range(x.shape[-1]):
            parts = []
            for branch, y in ((encoder.position, clip[..., m]), (encoder.motion, twin_motion(clip[..., m]))):
                y = conv(branch.conv2, F.relu(conv(branch.conv1, y[None])))
                parts.append(y)
                y = F.max_pool2d(conv(branch.conv3, y.permute(0, 3, 2, 1)), 2)
                parts.append(F.max_pool2d(conv(branch.conv4, y), 2))
            points.append(parts[0])
            cats.append(torch.cat([parts[1], parts[3]], 1))
            y = F.max_pool2d(F.relu(conv(encoder.conv5, cats[-1])), 2)
            tops.append(F.max_pool2d(F.relu(conv(encoder.conv6, y)), 2))
        top = torch.stack(tops).max(0).values
        conv2.append(torch.cat(points))
        conv4cat.append(torch.cat(cats))
        conv6.append(top)
        features.append(F.relu(encoder.fc7.weight @ top.flatten() + encoder.fc7.bias))
    return {
        "conv2": torch.stack(conv2),
        "conv4cat": torch.stack(conv4cat),
        "conv6": torch.stack(conv6),
        "features": torch.stack(features),
    }


@pytest.mark.parametrize("flavour", ["port", "skelact"])
@pytest.mark.parametrize(
    ("skeleton", "channels", "persons", "frames"), [(NTU25, 3, 2, 20), (KINECT20, 3, 1, 52), (COCO17, 2, 3, 16)]
)
def test_taps_and_features_equal_a_plain_twin(flavour, skeleton, channels, persons, frames):
    encoder = HCN(skeleton, persons, channels, frames, flavour, dropout=0).double()
    torch.manual_seed(1)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(3, channels, frames, skeleton.num_joints, persons, dtype=torch.double)
    expected = twin(encoder, x)
    for mode in (True, False):
        encoder.train(mode)
        for tap in ("conv6", "conv2", "conv4cat"):
            encoder.tap = tap
            feature_map, features = encoder.with_map(x)
            torch.testing.assert_close(feature_map, expected[tap], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(features, expected["features"], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(encoder(x), expected["features"], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(encoder.pool(encoder.feature_map(x)), expected["features"], rtol=1e-10, atol=1e-10)


def test_gradients_equal_those_of_a_plain_twin():
    encoder = HCN(KINECT20, num_frames=16, dropout=0).double()
    x = torch.randn(2, 3, 16, 20, 2, dtype=torch.double)
    weight = torch.randn(2, 512, dtype=torch.double)
    parameters = list(encoder.parameters())
    ours = torch.autograd.grad((encoder(x) * weight).sum(), parameters)
    theirs = torch.autograd.grad((twin(encoder, x)["features"] * weight).sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 3, 16, 4), (1, 1, 64, 2)])
def test_motion_is_the_resized_difference(shape):
    x = torch.randn(shape, dtype=torch.double)
    torch.testing.assert_close(difference(x), torch.stack([twin_motion(clip) for clip in x]))
    ramp = torch.arange(16.0)[None, None, :, None].expand(1, 2, 16, 3)
    torch.testing.assert_close(difference(0.5 * ramp + 3), torch.full((1, 2, 16, 3), 0.5))


@pytest.mark.parametrize(("frames", "merged", "cat"), [(64, 4, 16), (52, 3, 13), (32, 2, 8)])
def test_shapes_of_the_maps(frames, merged, cat):
    encoder = HCN(NTU25, num_frames=frames).eval()
    x = torch.randn(1, 3, frames, 25, 2)
    assert encoder.feature_map(x).shape == (1, 1, 256, merged, merged)
    for tap, shape in {
        "conv6": (1, 1, 256, merged, merged),
        "conv2": (1, 2, frames, frames, 25),
        "conv4cat": (1, 2, 128, cat, cat),
    }.items():
        encoder.tap = tap
        assert encoder.with_map(x)[0].shape == shape


@pytest.mark.parametrize(
    ("frames", "classes", "expected"),
    [(64, 60, 2_647_868), (64, 120, 2_678_648), (64, 51, 2_643_251), (32, 60, 1_062_652)],
)
def test_sizes_of_the_port(frames, classes, expected):
    encoder = HCN(NTU25, num_frames=frames)
    assert parameters(encoder, encoder.classifier(classes)) == expected


def test_sizes_of_the_laboratory_flavour():
    branch = (3 + 1) * 64 + (3 * 64 + 1) * 32 + (9 * 25 + 1) * 32 + (9 * 32 + 1) * 64
    rest = (9 * 128 + 1) * 128 + (9 * 128 + 1) * 256 + (256 * 4 * 2 + 1) * 256
    encoder = HCN(NTU25, flavour="skelact")
    assert encoder.dim == 256
    assert parameters(encoder) == 2 * branch + rest
    assert HCN(NTU25, flavour="skelact", hidden=8, points=16).fc7.weight.shape == (8, 256 * 4 * 1)


def test_the_order_of_the_bodies_does_not_matter():
    encoder = HCN(KINECT20, num_persons=3, num_frames=16).eval()
    x = torch.randn(2, 3, 16, 20, 3)
    torch.testing.assert_close(encoder(x[..., [2, 0, 1]]), encoder(x))
    torch.testing.assert_close(encoder(x[..., [0, 1, 2, 2]]), encoder(x), msg="a body seen twice adds nothing")


def test_dropout_takes_channels_in_the_port_and_elements_in_the_laboratory_flavour():
    x = torch.randn(8, 3, 16, 20, 2)
    shares = {}
    for flavour in ("port", "skelact"):
        encoder = HCN(KINECT20, num_frames=16, flavour=flavour, points=64, tap="conv4cat")
        dropped = (encoder.with_map(x)[0] == 0).double()
        assert dropped.mean() == pytest.approx(0.5, abs=0.05)
        shares[flavour] = dropped.mean((-2, -1))
    assert ((shares["port"] == 0) | (shares["port"] == 1)).all(), "whole channels"
    assert not torch.equal(shares["port"][:, 0], shares["port"][:, 1]), "each body has a mask of its own"
    assert ((shares["skelact"] > 0) & (shares["skelact"] < 1)).all(), "single elements"


def test_weights_start_xavier_uniform():
    encoder = HCN(NTU25)
    for layer in [*encoder.position.children(), encoder.conv6, encoder.fc7, encoder.classifier(60)]:
        if not hasattr(layer, "weight"):
            continue
        area = layer.weight[0, 0].numel()
        bound = (6 / (area * (layer.weight.shape[0] + layer.weight.shape[1]))) ** 0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()


def test_wrong_sizes_are_told():
    with pytest.raises(InputError, match="num_frames must be at least 16"):
        HCN(NTU25, num_frames=15)
    with pytest.raises(InputError, match="points must be at least 16"):
        HCN(NTU25, points=8)
    with pytest.raises(InputError, match="num_frames=32, but the clips have 64"):
        HCN(NTU25, num_frames=32)(torch.zeros(1, 3, 64, 25, 2))


def test_motion_keeps_its_precision_under_autocast():
    encoder = HCN(KINECT20, num_frames=16).eval()
    # Far from the origin a difference of rounded coordinates would be noise.
    x = 100 + 0.01 * torch.randn(2, 3, 16, 20, 1)
    seen = {}
    encoder.motion.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(x)
    assert features.isfinite().all()
    torch.testing.assert_close(seen["x"], difference(x[..., 0]), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in its own compiler
def test_compiled_equals_eager():
    encoder = HCN(KINECT20, num_frames=16).eval()
    x = torch.randn(2, 3, 16, 20, 2)
    torch.testing.assert_close(torch.compile(encoder, fullgraph=True)(x), encoder(x), rtol=1e-4, atol=1e-5)
