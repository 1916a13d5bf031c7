"""MAMP gives what the released networks give with the same weights: pre-training, fine-tuning and linear evaluation."""

import argparse
import copy

import pytest
import torch
from einops import rearrange
from torch import nn

from skelcl.encoders import ViT
from skelcl.errors import InputError
from skelcl.interop import load_reference, mamp
from skelcl.interop.detection import Origin, recognise
from skelcl.methods import MAMP
from skelcl.methods.mamp import hiding_order, hiding_probability, intensity, motion
from skelcl.runs.checkpoints import read_file
from skelcl.runs.loading import load
from skelcl.skeleton import KINECT20, NTU25
from skelcl.transforms import Normalize, Resize, View

NAMES = ["mamp-small", pytest.param("mamp", marks=pytest.mark.slow)]


def fine_tuned(reference):
    config = reference.config
    classes, frames, heads = config["num_classes"], config["num_frames"], config["num_heads"]
    return load_reference("mamp", reference.weights, num_classes=classes, num_frames=frames, heads=heads)


def pretrained(reference, rule, **options):
    """The method with the weights of the reference."""
    config = reference.config
    sizes = {"dim": config["dim_feat"], "depth": config["depth"], "mlp_ratio": config["mlp_ratio"]}
    frames, heads = config["num_frames"], config["num_heads"]
    view = View(Resize(frames), Normalize("root"))
    encoder = ViT(NTU25, 2, num_frames=frames, patch=config["t_patch_size"], heads=heads, **sizes)
    chosen = {
        "decoder_dim": config["decoder_dim_feat"],
        "decoder_depth": config["decoder_depth"],
        "mask_ratio": config["mask_ratio"],
        "motion_stride": config["motion_stride"],
        "tau": config["tau"],
    }
    method = MAMP(encoder, view, view, **chosen | options).double()
    state = {key: rule(key, shape) for key, shape in reference.pretrain["state_dict"].items()}
    origin = recognise(state)
    assert (origin.num_joints, origin.num_frames, origin.num_classes) == (25, frames, None)
    origin = Origin("mamp", num_frames=frames, heads=heads)
    method.load_state_dict(mamp.method_state(state, origin, NTU25))
    return method


def fixed_order(reference):
    tokens, body = reference.pretrain["tokens"], torch.arange(6)[:, None]
    return (7 * torch.arange(tokens) + 11 * body) % tokens


def uniform(tokens):
    return (((37 * torch.arange(tokens) + 101 * torch.arange(6)[:, None] + 5) % 1009) + 0.5).double() / 1009


def alone(x):
    x = x.clone()
    x[..., 1] = 0
    return x


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_features(golden, agrees, name):
    reference = golden(name)
    network, expected = fine_tuned(reference).eval(), reference.encoder
    assert sum(p.numel() for p in network.parameters()) == reference.n_params
    encoder, x = network.encoder, reference.x
    bodies = rearrange(x, "n c t v m -> (n m) c t v")
    agrees(rearrange(encoder.embed(bodies), "b d t v -> b t v d"), expected["embedding"], 1e-8)
    with torch.no_grad():
        feature_map = encoder.feature_map(x)
        agrees(rearrange(feature_map, "n m d t v -> n m t v d"), expected["tokens"], 1e-8)
        agrees(feature_map.mean((1, 3, 4)), expected["features"], 1e-8)
        agrees(encoder(x), expected["joint_features"], 1e-8)
        agrees(network(x), reference.eval[0], 1e-8)
        agrees(network(alone(x)), expected["absent_logits"], 1e-8)
        agrees(encoder.feature_map(alone(x)).mean((1, 3, 4)), expected["absent_features"], 1e-8)
        agrees(copy.deepcopy(network).float()(x.float()), reference.eval[0], 1e-4)
        agrees(network.train()(x), reference.train[0], 1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_the_linear_evaluation(golden, rule, agrees, name):
    reference = golden(name)
    state = {key: value for key, value in reference.weights.items() if not key.startswith("head.")}
    state |= {key: rule(key, shape) for key, shape in reference.linear["head_state_dict"].items()}
    config = reference.config
    options = {"num_classes": config["num_classes"], "num_frames": config["num_frames"], "heads": config["num_heads"]}
    network = load_reference("mamp", state, **options).eval()
    assert sum(p.numel() for p in network.head.parameters()) == reference.linear["n_params_trained"]
    with torch.no_grad():
        agrees(network.encoder(reference.x), reference.encoder["features"], 1e-8)
        agrees(network(reference.x), reference.encoder["linear_eval"], 1e-8)
        agrees(network.train()(reference.x), reference.encoder["linear_train"], 1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_pretraining_under_a_fixed_mask(golden, rule, agrees, name):
    reference = golden(name)
    method, expected, x = pretrained(reference, rule), reference.pretrain, reference.x
    assert sum(p.numel() for p in method.parameters()) == expected["n_params"]
    assert method.visible == expected["kept"]
    order = fixed_order(reference)
    bodies, seen = rearrange(x, "n c t v m -> (n m) c t v"), order[:, : expected["kept"]]
    agrees(
        rearrange(motion(x, method.motion_stride), "n c t v m -> (n m) t v c"),
        expected["motion"],
        1e-8,
    )
    agrees(method.targets(x), expected["target_normalised"], 1e-8)
    latent = method.encoder.tokens(bodies).gather(1, seen[..., None].expand(-1, -1, method.encoder.width))
    agrees(method.encoder.relate(latent), expected["latent"], 1e-8)
    agrees(method.predict(bodies, seen), expected["pred"], 1e-8)
    hidden = torch.ones(6, expected["tokens"]).scatter(1, seen, 0)
    assert hidden[0, :40].tolist() == expected["mask_row0_first40"]
    assert hidden.sum() == expected["mask_ones"]
    loss = method.masked_loss(x, order)
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-8)
    assert method.masked_loss(alone(x), order).item() == pytest.approx(expected["loss_second_person_absent"], rel=1e-8)
    loss.backward()
    names = {pieces.names[0]: key for key, pieces in layout(method, reference).items()}
    for key, norm in expected["grad_norms"].items():
        assert method.get_parameter(names[key]).grad.norm().item() == pytest.approx(norm, rel=1e-8), key
    total = torch.stack([p.grad.norm() for p in method.parameters()]).norm()
    assert total.item() == pytest.approx(expected["grad_norm"], rel=1e-8)


def layout(method, reference):
    """Where each parameter of the method is in the reference."""
    encoder, config = method.encoder, reference.config
    sizes = {"dim": encoder.width, "depth": len(encoder.blocks), "mlp_ratio": encoder.mlp_ratio}
    decoder = {"dim": config["decoder_dim_feat"], "depth": config["decoder_depth"]}
    _, found = mamp.build_pretraining(NTU25, encoder.shape[1], encoder.heads, sizes, decoder)
    return found.pieces


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "entry"),
    [
        ({"normalize_target": False}, "loss_target_not_normalised"),
        ({"target": "joints"}, "loss_reconstruct_joints_mae"),
    ],
)
def test_other_targets(golden, rule, agrees, name, options, entry):
    reference = golden(name)
    method = pretrained(reference, rule, **options)
    with torch.no_grad():
        loss = method.masked_loss(reference.x, fixed_order(reference)).item()
    assert loss == pytest.approx(reference.pretrain[entry], rel=1e-8)
    if "normalize_target" in options:
        agrees(method.targets(reference.x), reference.pretrain["target_raw"], 1e-8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("second", [True, False])
def test_the_motion_aware_mask(golden, rule, agrees, name, second):
    reference = golden(name)
    method, expected = pretrained(reference, rule), reference.pretrain["motion_aware"]
    x = reference.x if second else alone(reference.x)
    end = "" if second else "_second_person_absent"
    moving = intensity(method.patches(x), method.encoder.grid)
    if second:
        agrees(moving, expected["intensity"], 1e-8)
        agrees(hiding_probability(moving, method.tau), expected["probability"], 1e-8)
    order = hiding_order(moving, uniform(reference.pretrain["tokens"]), method.tau)
    kept = order[:, : method.visible]
    assert kept[:2, :12].tolist() == expected[f"keep_first12{end}"]
    assert kept.sum(1).tolist() == expected[f"keep_sum{end}"]
    hidden = torch.ones_like(order[0]).scatter(0, kept[0], 0).view(method.encoder.grid).sum(1)
    assert hidden.tolist() == expected[f"masked_per_frame_patch_row0{end}"]
    with torch.no_grad():
        loss = method.masked_loss(x, order).item()
    assert loss == pytest.approx(expected["loss" if second else "loss_second_person_absent"], rel=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_layouts_are_those_of_the_authors(golden, rule, name):
    reference = golden(name)
    state = {key: rule(key, shape) for key, shape in reference.pretrain["state_dict"].items()}
    module, found = build_from(reference)
    assert {key: list(shape) for key, shape in found.shapes(module).items()} == reference.pretrain["state_dict"]
    found.load(module, state)
    saved = found.dump(module)
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[key], value) for key, value in state.items())


def build_from(reference):
    config = reference.config
    sizes = {"dim": config["dim_feat"], "depth": config["depth"], "mlp_ratio": config["mlp_ratio"]}
    decoder = {"dim": config["decoder_dim_feat"], "depth": config["decoder_depth"]}
    return mamp.build_pretraining(NTU25, config["num_frames"], config["num_heads"], sizes, decoder)


# --- files -----------------------------------------------------------------------------------------------------------


def file_of(kind, seed=0):
    """What MAMP's training code saves in a small size of NW-UCLA, and its state dict."""
    torch.manual_seed(seed)
    sizes = {"dim": 16, "depth": 2, "mlp_ratio": 2, "patch": 4}
    if kind == "pretrain":
        module, found = mamp.build_pretraining(KINECT20, 16, 4, sizes, {"dim": 8, "depth": 3})
    else:
        pool = {"pool": "joints", "hidden": 12} if kind == "fine-tune" else {"pool": "clip"}
        module, found = mamp.build(KINECT20, 10, 16, 1, 4, **sizes, **pool)
    state = found.dump(module)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(2))])
    options = argparse.Namespace(config="pretrain.yaml", lr=1e-3, betas=(0.9, 0.95))
    content = {"model": state, "optimizer": optimizer.state_dict(), "epoch": 399, "scaler": {}, "args": options}
    return content, module


@pytest.fixture
def command(skelcl, tmp_path):
    """Runs a command in an empty folder."""
    return skelcl


@pytest.mark.parametrize("kind", ["pretrain", "fine-tune", "linear"])
def test_a_file_is_recognised_and_imported(command, ucla, capsys, kind):
    content, module = file_of(kind)
    torch.save(content, "checkpoint-399.pth")
    command("checkpoint", "inspect", "checkpoint-399.pth")
    told = capsys.readouterr().out
    assert f"weights of mamp,{'' if kind == 'pretrain' else ' classes 10,'} joints 20, frames 16" in told
    assert "skelcl checkpoint import --reference mamp" in told
    command("checkpoint", "import", "--input", "checkpoint-399.pth", "--output", "mamp.ckpt", "--heads", "4")
    method, data = load("mamp.ckpt", changes={"data": {"class_path": "NWUCLA", "init_args": {"root": str(ucla)}}})
    assert type(method).__name__ == ("MAMP" if kind == "pretrain" else "Supervised")
    clips = data.store.clips(data.parts["test"][:4], 1)
    module.eval()
    with torch.no_grad():
        x = method.eval_view(clips)
        assert x.shape == (4, 3, 16, 20, 1)
        if kind == "pretrain":
            torch.testing.assert_close(method(clips), module["encoder"](x))
            order = method.order(x, torch.Generator().manual_seed(0))
            seen = order[:, : method.visible]
            bodies = rearrange(x, "n c t v m -> (n m) c t v")
            tokens = module["encoder"].tokens(bodies).gather(1, seen[..., None].expand(-1, -1, 16))
            expected = module["decoder"](module["encoder"].relate(tokens), seen)
            torch.testing.assert_close(method.predict(bodies, seen), expected)
        else:
            torch.testing.assert_close(method.classify(method(clips)), module(x))
            torch.testing.assert_close(
                load_reference(
                    "mamp", content["model"], num_classes=10, num_frames=16, skeleton="kinect20", num_persons=1, heads=4
                ).eval()(x),
                module(x),
            )


def test_nothing_in_a_file_is_run(tmp_path):
    torch.save(file_of("pretrain")[0], tmp_path / "file.pth")
    assert type(read_file(tmp_path / "file.pth")["args"]).__name__ == "Unread"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("mask_token"), "it holds neither a decoder, as pre-training saves, nor a classifier"),
        (lambda state: state.pop("temp_embed"), "it is incomplete: temp_embed is missing"),
        (lambda state: state.pop("blocks.1.mlp.fc2.bias"), r"blocks\.1\.mlp\.fc2\.bias is missing"),
        (lambda state: state.update(cls_token=torch.zeros(1)), "cls_token is unexpected"),
        (
            lambda state: state.update(pos_embed=torch.zeros(1, 1, 25, 16)),
            r"pos_embed has shape \(1, 1, 25, 16\) instead of \(1, 1, 20, 16\)",
        ),
    ],
)
def test_a_file_that_is_not_whole(change, told):
    state = dict(file_of("pretrain")[0]["model"])
    change(state)
    with pytest.raises(InputError, match=told):
        mamp.method_state(state, recognise(state), KINECT20)


def test_pretraining_is_no_classifier(golden, rule):
    shapes = golden("mamp-small").pretrain["state_dict"]
    state = {key: rule(key, shape) for key, shape in shapes.items()}
    with pytest.raises(InputError, match=r"head\.fc\.1\.weight is missing.*mask_token is unexpected"):
        load_reference("mamp", state, num_frames=24, heads=2)


def test_other_heads_are_refused():
    state = file_of("fine-tune")[0]["model"]
    with pytest.raises(InputError, match="width 16 cannot have 3 heads"):
        load_reference("mamp", state, num_classes=10, num_frames=16, skeleton="kinect20", num_persons=1, heads=3)
