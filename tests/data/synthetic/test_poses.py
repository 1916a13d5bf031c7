"""Generated people as MediaPipe reports them."""

import numpy as np
import pytest

from skelcl.data.synthetic.poses import landmarks, write_mediapipe
from skelcl.errors import InputError
from skelcl.skeleton import MEDIAPIPE33, NTU25


def test_generated_people_are_the_same_every_time_and_only_once(tmp_path):
    assert write_mediapipe(tmp_path / "a", 2, 1) == write_mediapipe(tmp_path / "b", 2, 1) == 12
    for file in sorted((tmp_path / "a").rglob("*.*")):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
    with pytest.raises(InputError, match="holds files already"):
        write_mediapipe(tmp_path / "a", 2, 1)
    with pytest.raises(InputError, match="1–99"):
        write_mediapipe(tmp_path / "c", 0, 1)


def test_generated_landmarks_are_those_of_a_body(tmp_path):
    """Mapped back, the joints that both layouts have are where the body had them; left stays left."""
    rng = np.random.default_rng(0)
    joints = rng.normal(size=(3, 25, 3)).astype(np.float32)
    made = landmarks(joints)
    for joint, name in enumerate(MEDIAPIPE33.joints):
        if name in NTU25.joints:
            np.testing.assert_allclose(made[:, joint], joints[:, NTU25.joints.index(name)], atol=1e-6)
    at = MEDIAPIPE33.joints.index
    side = joints[:, NTU25.joints.index("left shoulder")] - joints[:, NTU25.joints.index("right shoulder")]
    assert (((made[:, at("left ear")] - made[:, at("right ear")]) * side).sum(-1) > 0).all()
