"""The last frames of a recording that comes frame by frame, and an LSTM that never reads a frame twice."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelcl.clips import Clips
from skelcl.data.poses.contents import Poses
from skelcl.data.poses.reader import PoseReader
from skelcl.encoders import LSTM
from skelcl.methods import Method
from skelcl.skeleton import Skeleton
from skelcl.transforms.normalize import TINY, Normalize
from skelcl.transforms.view import View

LEAST_AT_ONCE = 8
"""Fewer windows than this are not worth following frame by frame: the LSTM reads each when it is whole."""


class LiveFrames:
    """The last frames of a recording, of which those that lack nothing are held as the network takes them.

    Args:
        window: Frames that are kept.
        reader: How frames become clips.
        skeleton: Layout of the network's joints.
        num_persons: Bodies that it sees.
        recipe: Normalisation that the coordinates already went through.

    Attributes:
        count: Frames so far.
        run: Those up to the last one that lack nothing and have as many bodies each.
    """

    def __init__(self, window: int, reader: PoseReader, skeleton: Skeleton, num_persons: int, recipe: str) -> None:
        self.window, self.reader = window, reader
        self.count = 0
        self._frames: deque[NDArray[np.float32]] = deque(maxlen=window)
        self._skeleton, self._num_persons, self._recipe = skeleton, num_persons, recipe
        self._ring = np.empty((0, 0, 0, 0), np.float32)
        self.run = 0

    def append(self, frame: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Take the next frame, (M, V, C); give the bodies that are seen, unless something has to be filled in."""
        self._frames.append(frame)
        self.count += 1
        shown = self._read(frame)
        if shown is None:
            self.run = 0
            return None
        if len(shown) != len(self._ring):
            self._ring = np.empty((len(shown), 2 * self.window, *shown.shape[1:]), np.float32)
            self.run = 0
        # Every frame is written twice, so that the last ones always lie side by side.
        place = self.count % self.window
        self._ring[:, place] = self._ring[:, place + self.window] = shown
        self.run += 1
        return shown

    @property
    def whole(self) -> bool:
        """Whether no frame of the window lacks anything, and all have as many bodies."""
        return self.run >= self.window

    @property
    def clips(self) -> Clips:
        """The window as a clip, if it is :attr:`whole`."""
        stop = self.count % self.window + self.window + 1
        joints = np.ascontiguousarray(self._ring[:, stop - self.window : stop])
        nothing, length, count, unknown = torch.split(torch.tensor([0, self.window, len(joints), -1]), 1)
        return Clips(
            torch.from_numpy(joints.reshape(-1, *joints.shape[2:])),
            nothing,
            length,
            count,
            first=nothing,
            label=unknown,
            index=nothing,
            skeleton=self._skeleton,
            num_persons=self._num_persons,
            recipe=self._recipe,
        )

    @property
    def poses(self) -> Poses:
        """The window as it came, NaN for bodies that were not there."""
        bodies = max(1, *(len(frame) for frame in self._frames))
        joints = np.full((bodies, len(self._frames), *self._frames[-1].shape[1:]), np.nan, np.float32)
        for place, frame in enumerate(self._frames):
            joints[: len(frame), place] = frame
        return Poses(joints)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """V and C of the frames before; None without one."""
        return self._frames[-1].shape[1:] if self._frames else None

    def _read(self, frame: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """What :attr:`reader` and the store's cleaning would make of a frame that lacks nothing, else None."""
        reader = self.reader
        if not len(frame) or frame.shape[1:] != (reader.layout.num_joints, reader.channels):
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(frame.sum())
        if not finite:
            return None
        if not frame.all():  # zeros: of a joint, or of a whole body
            shown = frame.any(-1)
            if not (shown.all() if reader.zero_missing else shown.any(-1).all()):
                return None
        if reader.y_down:
            return None
        if reader.change is not None:
            frame = reader.change(frame[:, None])[:, 0]
        return frame[: min(reader.max_bodies, self._num_persons)]


class SlidingLSTM:
    """Features of every window of an LSTM, whose frames are each read once.

    A window begins with a state of zeros, so no window's states can be those of another. But all windows that a frame
    belongs to read it at the same time: one product of matrices for all of them, of which each is one row, takes the
    place of as many products with a vector. The input's product is shared, each row divides it by its own size.
    Windows that may be longer are fewer: one begins where that of an earlier decision would be too long, no sooner.

    Args:
        encoder: Of one layer, on the CPU.
        skeleton: Layout of the joints.
        num_persons: M, the bodies that it sees.
        centred: Whether each body is moved to its origin joint, frame by frame.
        scaled: Whether a window is divided by the torso of body 0 in its first frame.
        window: W, the frames of a window.
        stride: Frames from one decision to the next.
        slack: Frames by which a window may be longer than W.
    """

    def __init__(
        self,
        encoder: LSTM,
        skeleton: Skeleton,
        num_persons: int,
        centred: bool,
        scaled: bool,
        window: int,
        stride: int,
        slack: int = 0,
    ) -> None:
        self.window = window
        self._pool = encoder.pool
        self._step = stride * (1 + slack // stride)  # frames from the beginning of a window to that of the next
        self._centred, self._scaled = centred, scaled
        self._origin, self._center = skeleton.origin, skeleton.center
        values, dim = encoder.lstm.state_dict(), encoder.dim
        # All is made of the logistic function: tanh(x) = 2σ(2x) − 1. So the third gate is doubled; the state is held as
        # −h, which is o − 2oσ(2c), and the cell as 2c.
        factor = torch.ones(4, dim)
        factor[2] = 2
        factor = factor.view(-1, 1)
        weight, bias = -values["weight_hh_l0"] * factor, (values["bias_ih_l0"] + values["bias_hh_l0"]) * factor[:, 0]
        self._input = (values["weight_ih_l0"] * factor).numpy()
        # The product's last two rows are the input, over the size, and the bias.
        self._weight = torch.cat([weight.T, torch.zeros(1, 4 * dim), bias[None]]).contiguous()
        self._input_row = self._weight.numpy()[-2]
        rows = -(-(window + self._step - stride) // self._step)
        memory = torch.zeros(rows, 3 * dim + 2)
        memory[:, -1] = 1
        self._rows = memory.numpy()
        self._cell, self._sum, self._state = torch.split(memory, [dim, dim, dim + 2], 1)
        self._hidden = self._state[:, :dim]
        self._gates = torch.empty(rows, 4 * dim)
        self._in, self._forget, self._new, self._out = self._gates.chunk(4, 1)
        self._frame = np.zeros(
            (num_persons, skeleton.num_joints, encoder.lstm.input_size // skeleton.num_joints // num_persons)
        )
        self._frame = self._frame.astype(np.float32)

    def step(self, frame: NDArray[np.float32], count: int) -> Tensor:
        """Read one frame.

        Args:
            frame: Bodies without a gap, (M, V, C); those that are missing are zeros.
            count: Its number, counted from 1.

        Returns:
            Features (1, dim) of the :meth:`length` frames that end with it, if a decision is due and all were read.
        """
        self._frame[len(frame) :] = 0
        with np.errstate(over="ignore", invalid="ignore"):  # features that are not finite are refused
            np.subtract(frame, frame[:, self._origin, None] if self._centred else 0, out=self._frame[: len(frame)])
            np.dot(self._input, self._frame.T.reshape(-1), out=self._input_row)  # in the order (c v m)
        start, later = divmod(count - 1, self._step)
        if not later:
            row = self._rows[start % len(self._rows)]
            row[:-2] = 0
            row[-2] = 1.0
            if self._scaled:
                size = float(np.linalg.norm(frame[0, self._center] - frame[0, self._origin]))
                row[-2] = 1.0 if size < TINY else 1 / size
        torch.mm(self._state, self._weight, out=self._gates).sigmoid_()
        self._cell.mul_(self._forget).addcmul_(self._in, self._new, value=4).sub_(self._in, alpha=2)
        torch.sigmoid(self._cell, out=self._new)
        torch.addcmul(self._out, self._out, self._new, value=-2, out=self._hidden)
        self._sum.add_(self._hidden)
        row = (count - self.window) // self._step % len(self._rows)
        if self._pool == "last":
            return -self._hidden[row : row + 1]
        return self._sum[row : row + 1] * (-1 / self.length(count) if self._pool == "mean" else -1)

    def length(self, count: int) -> int:
        """Frames of the window that ends with frame ``count``: W, or up to ``slack`` more."""
        return self.window + (count - self.window) % self._step


def sliding_lstm(
    method: Method, window: int, stride: int, slack: int, skeleton: Skeleton, num_persons: int, channels: int
) -> SlidingLSTM | None:
    """The sliding form of a method's encoder, where the arithmetic allows it; else None.

    It does for an LSTM of one layer whose view takes the frames as they come and normalises each by itself, but for
    the torso of the first frame.
    """
    encoder, view = method.encoder, method.eval_view
    if type(method).encode is not Method.encode or type(encoder) is not LSTM or type(view) is not View:
        return None
    normalize = view.normalize
    plain = normalize is None or (type(normalize) is Normalize and normalize.recipe in ("none", "root"))
    if encoder.lstm.num_layers > 1 or encoder.pool == "masked_mean" or not plain or len(view.steps) or view.dup_body:
        return None
    on_cpu = next(encoder.parameters()).device.type == "cpu"
    if not on_cpu or window < LEAST_AT_ONCE * stride or view.frames != window:
        return None
    still = torch.zeros(window, skeleton.num_joints, channels)
    zero, one = torch.tensor([0]), torch.tensor([1])
    source, weight = view.sample.plan(Clips(still, zero, one * window, one, zero, zero, zero, skeleton, num_persons))
    taken = torch.zeros(window, window).scatter_add_(1, source[0], weight[0])
    if not torch.equal(taken, torch.eye(window)):
        return None
    centred = normalize is not None and normalize.recipe == "root"
    scaled = normalize is not None and normalize.scale == "torso"
    return SlidingLSTM(encoder, skeleton, num_persons, centred, scaled, window, stride, slack)
