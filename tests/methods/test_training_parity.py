"""Training of each method, step by step, beside one that is written out in float64: losses, weights, queues, banks."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader

from skelcl.encoders import CTRGCN, DSTA, LSTM, SCD
from skelcl.encoders.scd import SCDNetwork
from skelcl.interop import ctr_gcn, scd_net, sds_cl
from skelcl.interop.key_mapping import KeyMapping
from skelcl.methods import ASCAL, SDSCL, STDCL, SCDNet
from skelcl.methods.schedules import WarmupMultiStepLR
from skelcl.methods.sds_cl import PAIRS
from skelcl.nn.heads import SCDHeads
from skelcl.seeding import generator
from skelcl.skeleton import KINECT20

V = KINECT20.num_joints
WIDTHS, STRIDES = (16, 32), (1, 2)
TERMS = ("temporal", "anchor"), ("spatial", "anchor"), ("anchor", "temporal"), ("anchor", "spatial")
BLOCKS = ((8, 4, 1), (16, 4, 2))


def batches(parity, label, sizes, persons=1):
    clips = parity.clips(label, persons)
    index = torch.arange(len(label)).split(sizes)
    return [clips[i] for i in index], index


@pytest.mark.parametrize("epochs", [3, pytest.param(33, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*the features have collapsed")
def test_as_cal(double, by_hand, epochs):
    """An epoch that only fills the queue, a partial last batch, a queue that no batch divides, a rate that falls."""
    twins, parity = by_hand("twins"), by_hand("parity")
    sizes, frames, temperature, momentum = (4, 4, 3), 5, 0.06, 0.9
    encoder = LSTM(KINECT20, hidden=6)
    x = torch.randn(2 * len(sizes) * epochs, sum(sizes), 3, frames, V, 1)
    query = {name: value.detach().clone().requires_grad_() for name, value in encoder.lstm.named_parameters()}
    key = {name: value.detach().clone() for name, value in query.items()}
    view, schedule = parity.Given(x), partial(MultiStepLR, milestones=[2], gamma=0.1)
    options = {"queue_size": 10, "temperature": temperature, "momentum": momentum, "scheduler": schedule}
    method = ASCAL(encoder, view, view, **options)
    keys = method.queue.keys.clone()
    few, index = batches(parity, torch.zeros(sum(sizes), dtype=torch.int64), sizes)
    memory = parity.train(method, few, epochs)

    queue, optimizer = twins.Fifo(keys), twins.SGD(query.values(), 0.9, 1e-4)
    for step in range(len(sizes) * epochs):
        epoch, batch = divmod(step, len(sizes))
        one = twins.lstm(query, x[2 * step][index[batch]])
        other = twins.lstm(key, x[2 * step + 1][index[batch]]).detach()
        loss = twins.info_nce(one, other, queue, temperature)
        if epoch:
            loss.backward()
            optimizer.step(0.01 if epoch < 2 else 0.001)
            twins.follow(key.values(), query.values(), momentum)
        queue.push(other)
        parity.same(memory.terms[step]["train/loss"], loss, f"loss of step {step}")
        state = memory.states[step + 1]
        parity.same(state["queue.keys"], torch.stack(queue.keys), f"queue after step {step}")
        assert int(state["queue.pushed"]) % 10 == queue.pointer
        for name, value in query.items():
            parity.same(state[f"encoder.lstm.{name}"], value, f"{name} after step {step}")
            parity.same(state[f"key.module.0.lstm.{name}"], key[name], f"twin's {name} after step {step}")


@pytest.mark.parametrize("epochs", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_scd_net(double, by_hand, epochs):
    """Four contrasts across levels, three queues, a twin that has batch statistics of its own."""
    twins, parity, forms = by_hand("twins"), by_hand("parity"), by_hand("plain_methods")
    sizes, frames, persons, dim, projection = (4, 3), 6, 2, 8, 4
    clues = forms.Clues(KINECT20, persons, frames, WIDTHS, dim, 2)
    query = twins.undropped(forms.SCDNetwork(clues, dim, projection))
    slow = twins.undropped(forms.SCDNetwork(forms.Clues(KINECT20, persons, frames, WIDTHS, dim, 2), dim, projection))
    slow.load_state_dict(query.state_dict())
    x = torch.randn(2 * len(sizes) * epochs, sum(sizes), 3, frames, V, persons)

    def make():
        encoder = SCD(KINECT20, persons, 3, frames, widths=WIDTHS, dim=dim, heads=2, dropout=0.0)
        return encoder, KeyMapping(
            {**scd_net.encoder_pieces(encoder, "encoder.", "encoder."), **scd_net.head_pieces("heads.", "")}
        )

    encoder, layout = make()
    view = parity.Given(x)
    method = SCDNet(encoder, view, view, projection=projection, queue_size=9, momentum=0.9)
    for network in (method.query, method.key.module):
        layout.load(network, query.state_dict())
    levels = ("temporal", "spatial", "anchor")
    queues = {level: twins.Fifo(method.queue(level).keys) for level in levels}
    few, index = batches(parity, torch.zeros(sum(sizes), dtype=torch.int64), sizes, persons)
    memory = parity.train(method, few, epochs)

    optimizer, scratch = twins.SGD(query.parameters(), 0.9, 1e-4), SCDNetwork(make()[0], SCDHeads(dim, projection))
    for step in range(len(sizes) * epochs):
        rows = index[step % len(sizes)]
        outputs = query(x[2 * step][rows])[2:], [z.detach() for z in slow(x[2 * step + 1][rows])[2:]]
        units = ([z / z.norm(dim=1, keepdim=True) for z in some] for some in outputs)
        fast, keys = (dict(zip(levels, some, strict=True)) for some in units)
        loss = 0.0
        for asks, answers in TERMS:
            term = twins.info_nce(fast[asks], keys[answers], queues[answers], 0.2)
            parity.same(memory.terms[step][f"train/{asks}_{answers}"], term, f"{asks} to {answers} in step {step}")
            loss = loss + term
        loss.backward()
        optimizer.step(0.01)
        twins.follow(slow.parameters(), query.parameters(), 0.9)
        for level, queue in queues.items():
            queue.push(keys[level])
        parity.same(memory.terms[step]["train/loss"], loss, f"loss of step {step}")
        state = memory.states[step + 1]
        for level, queue in queues.items():
            parity.same(state[f"queues.{level}.keys"], torch.stack(queue.keys), f"queue {level} after step {step}")
        for prefix, network in (("", query), ("key.module.", slow)):
            layout.load(scratch, network.state_dict())
            for name, value in scratch.state_dict().items():
                parity.same(state[prefix + name], value, f"{prefix}{name} after step {step}")


@pytest.mark.parametrize(
    ("decay_all", "epochs"), [(False, 3), (True, 3), pytest.param(True, 4, marks=pytest.mark.slow)]
)
def test_sds_cl(double, by_hand, decay_all, epochs):
    """Nine terms, one encoder for both streams; ``release`` decays all weights, the default those of layers."""
    twins, parity, forms = by_hand("twins"), by_hand("parity"), by_hand("plain_methods")
    sizes, frames, persons, lr = (4, 3), 8, 2, 0.01
    plain = forms.SDSCLNetwork(KINECT20, frames, BLOCKS, 3)
    x = torch.randn(2 * len(sizes) * epochs, sum(sizes), 3, frames, V, persons)

    def make():
        encoder, view = DSTA(KINECT20, persons, blocks=BLOCKS), parity.Given(x)
        sgd = partial(SGD, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
        schedule = partial(WarmupMultiStepLR, milestones=[60])
        return SDSCL(encoder, view, view, sgd, schedule, decay_all=decay_all)

    method, scratch = make(), make()
    pieces = {
        **sds_cl.encoder_pieces(method.encoder, "encoder.", ""),
        **sds_cl.siia_pieces(method.siia, "siia.", ""),
        **sds_cl.head_pieces("heads.", ""),
    }
    known = {name for piece in pieces.values() for name in piece.names}
    layout = KeyMapping(pieces, frozenset(plain.state_dict().keys() - known))
    layout.load(method, plain.state_dict())
    few, index = batches(parity, torch.zeros(sum(sizes), dtype=torch.int64), sizes, persons)
    memory = parity.train(method, few, epochs)

    layers = {id(part.weight) for part in plain.modules() if isinstance(part, (torch.nn.Linear, torch.nn.Conv2d))}
    decaying = [p for p in plain.parameters() if decay_all or id(p) in layers]
    others = [p for p in plain.parameters() if not (decay_all or id(p) in layers)]
    optimizers = twins.SGD(decaying, 0.9, 5e-4, True), twins.SGD(others, 0.9, 0.0, True)
    for step in range(len(sizes) * epochs):
        epoch, batch = divmod(step, len(sizes))
        terms = forms.nine_losses(plain, plain(x[2 * step][index[batch]], x[2 * step + 1][index[batch]]), 0.07)
        loss = sum(terms)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step(lr * min(1, (epoch + 1) / 5))
        names = [f"{axis}_{pair}" for axis in ("stl", "tsl") for pair in PAIRS] + ["gl"]
        for name, term in zip(("loss", *names), (loss, *terms), strict=True):
            parity.same(memory.terms[step][f"train/{name}"], term, f"{name} of step {step}")
        layout.load(scratch, plain.state_dict())
        for name, value in scratch.state_dict().items():
            parity.same(memory.states[step + 1][name], value, f"{name} after step {step}")


class Training(pl.LightningDataModule):
    """The clips of a run of STD-CL, one slot each, of two persons at most."""

    validation, channels, num_persons, repeat, skeleton = "none", 3, 2, 1, KINECT20

    def __init__(self, few, label):
        super().__init__()
        self.few, self.label, self.class_names = few, label, [str(i) for i in label.unique()]

    def train_dataloader(self):
        return DataLoader(self.few, batch_size=None)

    def slot_labels(self):
        return self.label

    def slots(self, clips):
        return clips.index


@pytest.mark.parametrize("epochs", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_std_cl(double, by_hand, epochs):
    """The first batch finds no positive in the banks: it leaves the heads alone, momentum and weight decay included."""
    twins, parity = by_hand("twins"), by_hand("parity")
    classes, sizes, frames, persons = 3, (3, 4, 5), 8, 2
    positives, negatives, temperature, lr, decay = 2, 5, 0.8, 0.05, 0.01
    plain = by_hand("plain_encoders").CTRGCN(KINECT20, persons, classes, frames, WIDTHS, STRIDES)
    label = torch.tensor([0, 1, 2, 0, 0, 1, 2, 2, 1, 0, 2, 1])
    x = torch.randn(len(sizes) * epochs, len(label), 3, frames, V, persons)
    encoder, scratch = (CTRGCN(KINECT20, persons, 3, WIDTHS, STRIDES) for _ in range(2))
    layout = KeyMapping(ctr_gcn.encoder_pieces(encoder, "", ""), frozenset({"fc.weight", "fc.bias"}))
    layout.load(encoder, plain.state_dict())
    sgd = partial(SGD, lr=lr, momentum=0.9, nesterov=True, weight_decay=decay)
    options = {"dim": 6, "positives": positives, "negatives": negatives, "temperature": temperature}
    view, schedule = parity.Given(x), partial(WarmupMultiStepLR, milestones=[50])
    method = STDCL(encoder, view, view, classes, sgd, schedule, **options)
    method.classifier.load_state_dict(plain.fc.state_dict())
    few, index = batches(parity, label, sizes, persons)
    memory = parity.train(method, None, epochs, Training(few, label))

    halves = ("spatial", "temporal")
    heads = {
        name: {
            key.removeprefix(f"heads.{name}."): value.clone().requires_grad_()
            for key, value in memory.states[0].items()
            if key.startswith(f"heads.{name}.")
        }
        for name in halves
    }
    banks = {name: twins.BankContrast(label, positives, negatives, temperature) for name in halves}
    weights = [*plain.parameters(), *(weight for head in heads.values() for weight in head.values())]
    optimizer, passed = twins.SGD(weights, 0.9, decay, True), []
    for step in range(len(sizes) * epochs):
        epoch, batch = divmod(step, len(sizes))
        slots, random = index[batch], generator("negatives", epoch, batch)
        maps = plain.maps(x[step][slots])
        logits = plain.fc(maps.mean((1, 3, 4)))
        entropy = -torch.stack([row.log_softmax(0)[y] for row, y in zip(logits, label[slots], strict=True)]).mean()
        loss, told = entropy, {"cross_entropy": entropy}
        for name, bank in banks.items():
            vectors = twins.half(heads[name], maps, name)
            bank.write(vectors, slots)
            order, start = torch.randperm(len(label), generator=random), torch.rand(len(slots), generator=random)
            term, valid = bank.loss(vectors, label[slots], order, start)
            told |= {name: torch.tensor(0.0) if term is None else term, f"{name}_valid": torch.tensor(valid)}
            loss = loss if term is None else loss + 0.5 * term
        passed.append(valid == 0)
        loss.backward()
        optimizer.step(lr * min(1, (epoch + 1) / 5))
        state = memory.states[step + 1]
        for name, value in {"loss": loss, **told}.items():
            # The share of valid anchors is a number of single precision.
            digits = 1e-6 if name.endswith("valid") else 1e-10
            assert memory.terms[step][f"train/{name}"].item() == pytest.approx(value.item(), rel=digits), name
        for name in halves:
            slotted = [torch.zeros(6) if slot is None else slot for slot in banks[name].slots]
            parity.same(state[f"banks.{name}.features"], torch.stack(slotted), f"bank {name} after step {step}")
            assert state[f"banks.{name}.filled"].tolist() == [slot is not None for slot in banks[name].slots]
            for key, value in heads[name].items():
                parity.same(state[f"heads.{name}.{key}"], value, f"head {name} {key} after step {step}")
        layout.load(scratch, plain.state_dict())
        for name, value in scratch.state_dict().items():
            parity.same(state[f"encoder.{name}"], value, f"{name} after step {step}")
        parity.same(state["classifier.weight"], plain.fc.weight, f"classifier after step {step}")
    assert passed[0]
    assert not all(passed)
