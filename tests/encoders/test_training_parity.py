"""Supervised training of each encoder, step by step, beside plain networks and optimisers written out, in float64."""

from functools import partial

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR

from skelcl.interop.reference import NETWORKS
from skelcl.methods import Supervised
from skelcl.methods.schedules import WarmupMultiStepLR
from skelcl.skeleton import KINECT20

CLASSES, SIZES, EPOCHS = 5, (3, 2), 3


@pytest.mark.parametrize(
    ("name", "frames", "persons", "lr", "decay"),
    [
        ("hcn", 16, 2, 1e-3, 1e-4),
        ("ctr-gcn", 8, 1, 0.1, 4e-4),
        ("2s-agcn", 8, 1, 0.1, 1e-4),
        ("hyperformer", 8, 1, 0.025, 4e-4),
    ],
)
def test_six_steps_equal_those_of_a_plain_network(double, by_hand, name, frames, persons, lr, decay):
    """The published recipes: SGD with Nesterov's momentum and five epochs of warm-up; HCN's Adam with its clipping."""
    twins, parity = by_hand("twins"), by_hand("parity")
    plain = twins.undropped(by_hand("plain_encoders").NETWORKS[name](KINECT20, persons, CLASSES, frames))
    network, layout = NETWORKS[name](KINECT20, CLASSES, frames, persons)
    layout.load(network, plain.state_dict())
    label = torch.arange(sum(SIZES)) % CLASSES
    x = torch.randn(EPOCHS * len(SIZES), len(label), 3, frames, KINECT20.num_joints, persons)
    adam = name == "hcn"
    method = Supervised(
        twins.undropped(network.encoder),
        parity.Given(x),
        parity.Given(x),
        CLASSES,
        partial(Adam, lr=lr, weight_decay=decay)
        if adam
        else partial(SGD, lr=lr, momentum=0.9, nesterov=True, weight_decay=decay),
        partial(ExponentialLR, gamma=0.99) if adam else partial(WarmupMultiStepLR, milestones=[50]),
    )
    method.classifier.load_state_dict(network.head.state_dict())
    clips = parity.clips(label, persons)
    index = torch.arange(len(label)).split(SIZES)
    most = 0.2 if adam else None
    memory = parity.train(method, [clips[i] for i in index], EPOCHS, gradient_clip_val=most)

    optimizer = twins.Adam(plain.parameters(), decay) if adam else twins.SGD(plain.parameters(), 0.9, decay, True)
    for step in range(EPOCHS * len(SIZES)):
        epoch, batch = divmod(step, len(SIZES))
        logits = plain(x[step][index[batch]])
        rows = zip(logits, label[index[batch]], strict=True)
        loss = torch.stack([-row.log_softmax(0)[y] for row, y in rows]).mean()
        loss.backward()
        if adam:
            assert twins.clip(plain.parameters(), most) > most
        optimizer.step(lr * (0.99**epoch if adam else (epoch + 1) / 5))
        parity.same(memory.terms[step]["train/loss"], loss, f"loss of step {step}")
        layout.load(network, plain.state_dict())
        for key, value in memory.states[step + 1].items():
            part, _, rest = key.partition(".")
            ours = network.encoder if part == "encoder" else network.head
            parity.same(value, ours.state_dict()[rest], f"{key} after step {step}")
    assert len(memory.states) == EPOCHS * len(SIZES) + 1
