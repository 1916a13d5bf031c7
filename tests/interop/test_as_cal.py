"""AS-CAL's encoder out of files whose authors may have called it anything."""

import math

import pytest
import torch
from torch import nn

from skelcl.errors import InputError
from skelcl.interop import load_reference


@pytest.mark.parametrize("prefix", ["", "lstm.", "encoder.rnn."])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_encoding_is_the_mean_of_the_states_of_that_lstm(prefix, layers):
    torch.manual_seed(0)
    lstm = nn.LSTM(3 * 20 * 1, 12, layers, batch_first=True)
    state = {f"{prefix}{name}": value for name, value in lstm.state_dict().items()}
    state |= {"head.weight": torch.zeros(2, 2)} if prefix else {}
    x = torch.randn(4, 3, 9, 20, 1)
    encoder = load_reference("as-cal", state, skeleton="kinect20", num_persons=1)
    # Reference: frames are rows (c, v, m), and the encoding is the average over time.
    states, _ = lstm(torch.stack([clip.transpose(0, 1).reshape(9, -1) for clip in x]))
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), states.mean(1))


def test_the_encoding_in_closed_form():
    """All weights zero but the bias of the candidate, atanh 0.8: gates are 1/2 and the input plays no role."""
    lstm = nn.LSTM(3 * 25 * 2, 4).double()
    state = {name: torch.zeros_like(value) for name, value in lstm.state_dict().items()}
    state["bias_ih_l0"][8:12] = math.atanh(0.8)
    cell, expected = 0.0, 0.0
    for _ in range(3):
        cell = 0.5 * cell + 0.5 * 0.8
        expected += 0.5 * math.tanh(cell) / 3
    found = load_reference("as-cal", state)(torch.randn(2, 3, 3, 25, 2, dtype=torch.float64))
    torch.testing.assert_close(found, torch.full((2, 4), expected, dtype=torch.float64))
    assert expected == pytest.approx(0.253561, abs=1e-6)


def test_no_lstm_several_and_other_shapes_are_refused():
    one = {f"q.{name}": value for name, value in nn.LSTM(60, 4).state_dict().items()}
    with pytest.raises(InputError, match="it holds no LSTM"):
        load_reference("as-cal", {"weight": torch.zeros(2)})
    twin = {name.replace("q.", "k."): value for name, value in one.items()}
    with pytest.raises(InputError, match=r"several LSTMs \(q\., k\.\): pass one of them"):
        load_reference("as-cal", one | twin)
    with pytest.raises(InputError, match=r"weight_ih_l0 has shape \(16, 60\) instead of \(16, 150\)"):
        load_reference("as-cal", one)
    del one["q.bias_hh_l0"]
    with pytest.raises(InputError, match="bias_hh_l0 is missing"):
        load_reference("as-cal", one, skeleton="kinect20", num_persons=1)
