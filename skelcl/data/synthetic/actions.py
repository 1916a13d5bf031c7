"""Scripts of what the synthetic people do: key poses and the seconds between them, drawn anew for every performance.

Every script is that of a right-handed person. Confusable pairs are meant: one or two hands, an arm that reaches,
waves, throws or drinks, walking with and without a load, and two pairs that differ in the direction of time alone.
"""

from __future__ import annotations

from collections.abc import Callable

from skelcl.data.synthetic.motion import AT, Arm, Array, Draw, pose

Key = tuple[float, Array]
"""Seconds since the key before (0 in the first key: the clip begins in this pose) and the pose, NaN as at the start."""
Script = list[Key]
Solo = Callable[[Draw], Script]
Duo = Callable[[Draw], tuple[Script, Script, float]]
STAND = (3.0, 5.0, 4.0)


def start_pose(draw: Draw, seated: bool = False) -> Array:
    """How somebody waits, (D,) degrees: standing or seated; arms hanging, hands folded, on the hip, in a pocket."""
    arms = []
    folded = draw.bernoulli(0.12)
    for _ in range(2):
        hanging = (draw(-5, 12), draw(40, 110), draw(-10, 25), draw(5, 30), 5.0)
        folded_arm = (draw(15, 30), draw(0, 30), draw(45, 65), draw(65, 95), 0.0)
        hip = (draw(35, 50), draw(100, 125), draw(45, 65), draw(80, 100), 0.0)
        pocket = (draw(5, 15), draw(120, 150), draw(15, 30), draw(35, 55), 0.0)
        choice = draw.integers(20)
        arms.append(folded_arm if folded else hip if choice == 0 else pocket if choice in (1, 2) else hanging)
    legs = (draw(78, 96), draw(78, 100), draw(3, 12)) if seated else STAND
    start = pose(right=arms[0], left=arms[1], legs=legs, turn=0.0, side=0.0, twist=0.0, look=0.0, tilt=0.0)
    start[[AT["bow"], AT["nod"]]] = draw(-2, 8), draw(-5, 15)
    return start


def _walk(
    draw: Draw, steps: int, arms: Arm | None = None, turn: float = 0.0, bow: float = 4.0, size: float = 1.0
) -> Script:
    """Steps of a walk that ends standing.

    Args:
        draw: Source of randomness.
        steps: Their number.
        arms: Pose of both arms, () as at the start; by default they swing against the legs.
        turn: Degrees by which the path turns.
        bow: Degrees by which the trunk bends forwards.
        size: Factor on the length of the steps; below 0 they lead backwards.
    """
    pace, stride, swing = draw(0.42, 0.60), draw(19, 27) * size, draw(10, 30)
    lift, first = draw(40, 60), draw.integers(2)
    through, stance = (12.0 if size > 0 else 5.0, lift, 2.0), (1.0, 5.0, 2.0)
    ahead, behind = (stride, 10.0, 2.0), (-0.8 * stride, 14.0, 2.0)
    hanging = (2.0, 10.0, 10.0, 18.0)
    forward, backward = (swing, 10.0, 10.0, 25.0), (-swing, 10.0, 10.0, 12.0)
    script: Script = []
    for step in range(steps):
        right = (step + first) % 2 == 0
        heading = turn * (step + 1) / steps
        for moving, standing, near, far, twist in (
            (through, stance, hanging, hanging, 0.0),
            (ahead, behind, backward, forward, 4.0),
        ):
            moved = pose(
                right=(near if right else far) if arms is None else arms,
                left=(far if right else near) if arms is None else arms,
                right_leg=moving if right else standing,
                left_leg=standing if right else moving,
                turn=heading,
                bow=bow,
                twist=twist if right else -twist,
            )
            script.append((pace / 2, moved))
    return [*script, (pace * 0.6, pose(both=arms or (), legs=STAND, turn=turn, bow=bow))]


def _approach(draw: Draw, probability: float = 0.35) -> Script:
    """Sometimes a step or two before the action itself."""
    return _walk(draw, 1 + draw.integers(2), turn=draw(-25, 25), size=0.8) if draw.bernoulli(probability) else []


def _reach_down(draw: Draw, hands: int) -> Script:
    stoop = draw(0.0, 1.0)  # 0 bends the knees, 1 bends the back
    bow = 45 + 50 * stoop + draw(-8, 8)
    legs = (85 - 65 * stoop + draw(-8, 8), 110 - 90 * stoop + draw(-8, 8), draw(4, 14))
    reach = (bow + draw(-5, 25), draw(-5, 25), draw(-5, 20), draw(5, 25), draw(0, 30))
    spare = (bow * draw(-0.2, 0.45), draw(30, 80), draw(0, 30), draw(10, 60), 0.0)
    held = (draw(15, 50), draw(0, 25), draw(5, 35), draw(40, 95), 0.0)
    other = reach if hands == 2 else spare
    script = _approach(draw, 0.35)
    turn = script[-1][1][AT["turn"]] if script else 0.0
    down = pose(right=reach, left=other, legs=legs, bow=bow, nod=draw(-10, 25), turn=turn, twist=draw(-8, 8))
    up = pose(right=held, left=held if hands == 2 else (), legs=STAND, bow=draw(0, 15), turn=turn)
    return [*script, (draw(0.45, 0.8), down), (draw(0.1, 0.4), down), (draw(0.5, 0.8), up), (draw(0.1, 0.4), up)]


def _pick_up_with_one_hand(draw: Draw) -> Script:
    return _reach_down(draw, hands=1)


def _pick_up_with_two_hands(draw: Draw) -> Script:
    return _reach_down(draw, hands=2)


def _drop_trash(draw: Draw) -> Script:
    script = _approach(draw, 0.35)
    turn = script[-1][1][AT["turn"]] if script else draw(-30, 30)
    held = pose(right=(draw(10, 35), draw(0, 30), draw(5, 30), draw(50, 95)), turn=turn)
    out = (draw(40, 75), draw(-5, 55), draw(-5, 25), draw(8, 30))
    bow, twist = draw(2, 28), draw(-15, 10)
    over = pose(right=(*out, draw(0, 20)), bow=bow, twist=twist, nod=draw(5, 25), turn=turn)
    drop = pose(right=(out[0] + 4, out[1], out[2], out[3] - 5, draw(-40, -10)), bow=bow, twist=twist, turn=turn)
    back = pose(turn=turn)
    return [*script, (0.3, held), (draw(0.35, 0.6), over), (draw(0.15, 0.4), drop), (draw(0.4, 0.7), back)]


def _walk_around(draw: Draw) -> Script:
    steps, turn, bow = 3 + draw.integers(3), draw(-130, 130), draw(0, 8)
    return _walk(draw, steps, None if draw.bernoulli(0.7) else (), turn, bow)


def _sit_down(draw: Draw) -> Script:
    legs = (draw(78, 96), draw(78, 100), draw(3, 12))
    lap = (draw(20, 45), draw(0, 30), draw(10, 40), draw(30, 70))
    middle = (draw(10, 50), draw(0, 50), draw(0, 25), draw(10, 40))
    seconds = draw(0.35, 0.65)
    return [
        (seconds, pose(both=middle, legs=(legs[0] * 0.55, legs[1] * 0.7, legs[2]), bow=draw(25, 45), nod=draw(0, 15))),
        (seconds, pose(both=lap, legs=legs, bow=draw(8, 25))),
        (draw(0.2, 0.5), pose(both=lap, legs=legs, bow=draw(-8, 10))),
    ]


def _backwards(script: Script, start: Array) -> Script:
    """The script played from its end to its beginning: it starts in the last pose and ends in the start pose."""
    poses = [start, *(p for _, p in script)][::-1]
    seconds = [0.0, *(s for s, _ in script[::-1])]
    return list(zip(seconds, poses, strict=True))


def _stand_up(draw: Draw) -> Script:
    return _backwards(_sit_down(draw), pose(legs=STAND))


def _donning(draw: Draw) -> Script:
    collar = (draw(30, 50), draw(0, 20), draw(30, 55), draw(95, 125))
    low = (draw(10, 30), draw(60, 120), draw(0, 25), draw(30, 70))
    behind = (draw(35, 65), draw(115, 150), draw(0, 35), draw(55, 100))
    through = (draw(50, 90), draw(45, 95), draw(-20, 10), draw(10, 35))
    pull = (draw(15, 40), draw(-5, 20), draw(30, 60), draw(85, 120))
    twist, bow = draw(8, 22), draw(0, 12)
    script = [
        (draw(0.3, 0.5), pose(right=low, left=collar, bow=bow, nod=15.0)),
        (draw(0.4, 0.6), pose(right=behind, left=collar, bow=bow, twist=-twist, look=-15.0)),
        (draw(0.3, 0.5), pose(right=through, left=collar, bow=bow, twist=-twist / 2)),
        (draw(0.4, 0.6), pose(right=collar, left=behind, bow=bow, twist=twist, look=15.0)),
        (draw(0.3, 0.5), pose(right=collar, left=through, bow=bow, twist=twist / 2)),
        (draw(0.4, 0.6), pose(both=pull, bow=bow / 2, nod=15.0)),
    ]
    return [*script, (draw(0.3, 0.5), pose(both=(pull[0] * 0.6, *pull[1:]), nod=5.0))]


def _doffing(draw: Draw) -> Script:
    return [*_backwards(_donning(draw), pose())[1:], (draw(0.2, 0.4), pose())]


def _throw(draw: Draw) -> Script:
    twist, bow = draw(15, 40), draw(8, 30)
    if draw.bernoulli(0.3):  # underarm
        back = (-draw(25, 50), draw(0, 20), 0.0, draw(5, 25))
        release = (draw(50, 85), draw(-5, 15), 0.0, draw(5, 25))
        end = (release[0] + draw(15, 40), draw(-10, 10), 0.0, draw(20, 50))
    else:
        back = (draw(75, 110), draw(80, 120), -draw(55, 90), draw(70, 110))
        release = (draw(90, 130), draw(20, 50), -draw(0, 30), draw(15, 40))
        end = (draw(35, 65), -draw(0, 30), draw(10, 40), draw(10, 35))
    return [
        *_approach(draw, 0.3),
        (draw(0.4, 0.7), pose(right=(*back, -20.0), twist=-twist, bow=-draw(0, 8))),
        (draw(0.14, 0.24), pose(right=(*release, 0.0), twist=twist * 0.3, bow=bow * 0.6)),
        (draw(0.15, 0.28), pose(right=(*end, 25.0), twist=twist, bow=bow)),
        (draw(0.4, 0.7), pose()),
    ]


def _carry(draw: Draw) -> Script:
    arms = (draw(5, 35), draw(0, 20), draw(0, 30), draw(45, 100), 0.0)
    script = _walk(draw, 3 + draw.integers(3), arms=arms, turn=draw(-130, 130), bow=draw(-6, 10))
    return [(0.0, pose(both=arms, legs=STAND)), *script]


def _wave(draw: Draw) -> Script:
    up, plane, elbow = draw(55, 120), draw(50, 95), draw(60, 110)
    centre, width, beat = -draw(65, 95), draw(12, 28), draw(0.16, 0.28)
    script = [(draw(0.4, 0.6), pose(right=(up, plane, centre + width, elbow)))]
    for n in range(2 * (2 + draw.integers(3))):
        roll = centre + (width if n % 2 else -width)
        script.append((beat, pose(right=(up, plane, roll, elbow + (8 if n % 2 else -8)))))
    return [*script, (draw(0.4, 0.6), pose())]


def _drink(draw: Draw) -> Script:
    mouth = (draw(40, 65), draw(-5, 25), draw(35, 55), draw(125, 142))
    held = (draw(10, 30), draw(0, 20), draw(5, 25), draw(60, 95))
    hold = pose(right=(*mouth, -10.0), nod=-draw(5, 22))
    return [(0.35, pose(right=held)), (draw(0.4, 0.6), pose(right=mouth, nod=0.0)), (0.2, hold),
            (draw(0.3, 0.8), hold), (draw(0.4, 0.6), pose(right=held)), (0.3, pose())]  # fmt: skip


def _call(draw: Draw) -> Script:
    ear = pose(right=(draw(45, 75), draw(45, 80), -draw(5, 30), draw(135, 148)), tilt=-draw(0, 15), look=draw(-15, 15))
    return [(draw(0.5, 0.8), ear), (draw(0.8, 1.4), ear), (draw(0.4, 0.7), pose())]


def _clap(draw: Draw) -> Script:
    up, elbow, beat = draw(20, 50), draw(70, 100), draw(0.12, 0.2)
    script = [(draw(0.4, 0.6), pose(both=(up, 10.0, 5.0, elbow)))]
    for n in range(2 * (2 + draw.integers(4))):
        script.append((beat, pose(both=(up, 10.0, 5.0 if n % 2 else 38.0, elbow))))
    return [*script, (draw(0.4, 0.6), pose())]


def _kicking(draw: Draw) -> Script:
    support = (draw(0, 6), draw(4, 12), 3.0)
    high = draw(45, 85)
    back = pose(right_leg=(-draw(10, 25), draw(30, 60), 3.0), left_leg=support, bow=draw(0, 10), right=(20.0, 30.0))
    hit = pose(right_leg=(high, draw(0, 12), 3.0), left_leg=support, bow=-draw(0, 15), right=(-15.0, 30.0), twist=8.0)
    drawn = pose(right_leg=(high * 0.5, draw(40, 70), 3.0), left_leg=support, bow=5.0)
    return [(draw(0.3, 0.5), back), (draw(0.18, 0.3), hit), (0.25, drawn), (draw(0.3, 0.5), pose(legs=STAND))]


def _kick(draw: Draw) -> Script:
    return [*_approach(draw, 0.3), *_kicking(draw)]


def _idle(draw: Draw, seconds: float) -> Script:
    look, bow = draw(-12, 12), draw(0, 6)
    return [(seconds * share, pose(look=look * k, bow=bow, turn=draw(-4, 4))) for share, k in ((0.4, 1), (0.6, -0.5))]


def _length(script: Script) -> float:
    return sum(seconds for seconds, _ in script)


def _stagger(draw: Draw, after: float) -> Script:
    back = (draw(5, 35), draw(30, 70), draw(-10, 20), draw(20, 60))
    hit = pose(both=back, bow=-draw(8, 25), nod=draw(-10, 20))
    return [(after, pose()), (draw(0.15, 0.25), hit), *_walk(draw, 1 + draw.integers(2), size=-0.6, bow=-4.0)]


def _handshake(draw: Draw) -> tuple[Script, Script, float]:
    beat, shakes, late = draw(0.13, 0.2), 2 * (1 + draw.integers(3)), draw(0.0, 0.3)
    pair: list[Script] = []
    for delay in (0.0, late):
        up, elbow = draw(30, 48), draw(35, 65)
        script = [(0.05 + delay, pose()), (0.6 + late - delay, pose(right=(up, 5.0, 12.0, elbow), bow=draw(0, 12)))]
        script += [(beat, pose(right=(up, 5.0, 12.0, elbow + (14 if n % 2 else -6)))) for n in range(shakes)]
        pair.append([*script, (draw(0.4, 0.6), pose())])
    return pair[0], pair[1], draw(0.85, 1.05)


def _high_five(draw: Draw) -> tuple[Script, Script, float]:
    swing, hit = draw(0.4, 0.6), draw(0.14, 0.24)
    pair: list[Script] = []
    for _ in range(2):
        back = (draw(100, 140), draw(40, 70), -draw(30, 60), draw(60, 95))
        front = (draw(105, 130), draw(10, 25), -draw(0, 25), draw(15, 35))
        pair.append([(swing, pose(right=back)), (hit, pose(right=front, bow=6.0)), (draw(0.4, 0.7), pose())])
    return pair[0], pair[1], draw(0.8, 1.0)


def _hug(draw: Draw) -> tuple[Script, Script, float]:
    steps = draw.integers(3)
    hold = draw(0.4, 0.9)
    pair: list[Script] = []
    for _ in range(2):
        open_arms = (draw(55, 80), draw(40, 65), draw(0, 20), draw(25, 50))
        around = (draw(65, 90), draw(5, 25), draw(15, 40), draw(60, 95))
        embrace = pose(both=around, bow=draw(5, 18), tilt=draw(-12, 12))
        script = _walk(draw, steps, size=0.7) if steps else []
        pair.append([*script, (0.45, pose(both=open_arms)), (0.4, embrace), (hold, embrace), (0.5, pose())])
    return pair[0], pair[1], draw(0.32, 0.45)


def _push(draw: Draw) -> tuple[Script, Script, float]:
    drawn = pose(both=(draw(15, 35), 10.0, draw(5, 20), draw(100, 125)), bow=draw(0, 10))
    shove = pose(both=(draw(65, 85), 5.0, 5.0, draw(8, 25)), bow=draw(12, 28), right_leg=(18.0, 15.0, 3.0))
    script = [*_approach(draw), (draw(0.35, 0.6), drawn), (draw(0.16, 0.26), shove)]
    hit = _length(script)
    return [*script, (0.2, shove), (draw(0.4, 0.6), pose(legs=STAND))], _stagger(draw, hit - 0.05), draw(0.65, 0.85)


def _kick_other(draw: Draw) -> tuple[Script, Script, float]:
    script = _kick(draw)
    return script, _stagger(draw, _length(script[:-2]) - 0.05), draw(0.75, 1.0)


def _point_at_other(draw: Draw) -> tuple[Script, Script, float]:
    aim = pose(right=(draw(65, 95), draw(-5, 15), draw(-5, 15), draw(0, 20)), bow=draw(-2, 6))
    script = [(draw(0.35, 0.6), aim), (draw(0.4, 0.9), aim), (draw(0.4, 0.6), pose())]
    return script, _idle(draw, _length(script)), draw(0.9, 1.4)


SOLO: dict[str, Solo] = {
    "pick up with one hand": _pick_up_with_one_hand,
    "pick up with two hands": _pick_up_with_two_hands,
    "drop trash": _drop_trash,
    "walk around": _walk_around,
    "sit down": _sit_down,
    "stand up": _stand_up,
    "donning": _donning,
    "doffing": _doffing,
    "throw": _throw,
    "carry": _carry,
    "wave": _wave,
    "drink": _drink,
    "phone call": _call,
    "clap": _clap,
    "kick": _kick,
}
"""Actions of one person."""
DUO: dict[str, Duo] = {
    "handshake": _handshake,
    "high five": _high_five,
    "hug": _hug,
    "push": _push,
    "kick other": _kick_other,
    "point at other": _point_at_other,
}
"""Actions of two people: their scripts and the distance in metres at which they come closest."""
ACTIONS = (*SOLO, *DUO)
"""Names of all actions."""
