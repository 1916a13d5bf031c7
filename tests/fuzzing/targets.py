"""What mutated files are opened by: everything that reads files of others."""

import contextlib
import copy
import io
import itertools
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import torch
from fuzzing.mutations import (
    NAME,
    mutated_array,
    mutated_bytes,
    mutated_json,
    mutated_npz,
    mutated_pickle,
    mutated_values,
    mutated_zip,
    npy,
    odd,
    odd_in_pickle,
    swapped_tokens,
)

from skelcl.data.bodies import BodyFrames
from skelcl.data.cleaning import clean
from skelcl.data.convert import convert
from skelcl.data.facts import FACTS_KEY
from skelcl.data.formats import archives, ntu, ntu_skeleton, nw_ucla, pku_mmd, pku_text
from skelcl.data.import_arrays import open_arrays, read_names
from skelcl.data.inspection import statistics
from skelcl.data.poses.importing import read_labels
from skelcl.data.poses.layouts import find_layout
from skelcl.data.poses.reader import fill_unseen
from skelcl.data.poses.single import guess_format, read_clip
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.store import SkeletonStore
from skelcl.interop.detection import find_state, recognise
from skelcl.runs.checkpoints import read_checkpoint, read_file
from skelcl.runs.loading import read_data_facts
from skelcl.runs.trust import stored_config
from skelcl.skeleton import COCO17, KINECT20, MEDIAPIPE33, NTU25


def cleaned(recordings, skeleton=NTU25, channels=3):
    for recording in recordings:
        if isinstance(recording, Recording):
            _, joints, _ = clean(recording, skeleton, channels)
            assert joints.dtype == np.float32
            assert joints.shape[2:] == (skeleton.num_joints, channels)


def _body(frames=2, joints=25, seed=0, bodies=1, channels=3):
    values = np.random.default_rng(seed).normal(0, 0.4, (bodies, frames, joints, channels)) + 2
    return values.round(3).astype(np.float32)


class Ntu:
    def __init__(self, folder):
        self.file = folder / f"{NAME}.skeleton"
        bodies = BodyFrames(_body(3, bodies=1)[0], np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0, 0, 1]), 2)
        ntu_skeleton.write_skeleton(self.file, bodies, [7, 9])
        self.valid = self.file.read_bytes()

    def __call__(self, rng):
        self.file.write_bytes((swapped_tokens if rng.random() < 0.5 else mutated_bytes)(rng, self.valid))
        cleaned(
            ntu.read(str(self.file), rng.choice(("sgn", "agcn", "first-two")), rng.random() < 0.3, rng.random() < 0.3)
        )


class Pku:
    def __init__(self, folder):
        self.files = folder / "0002-L.txt", folder / "label.txt"
        pku_text.write_skeleton(self.files[0], _body(3, bodies=2))
        pku_text.write_labels(self.files[1], [pku_text.Interval(3, 0, 2, 1), pku_text.Interval(5, 1, 3, 2)])
        pku_text.write_split(folder / "split.txt", ["0002-L"], ["0003-L"])
        self.valid = [file.read_bytes() for file in self.files]
        self.split = (folder / "split.txt").read_bytes()

    def __call__(self, rng):
        damaged = rng.randrange(3)
        if damaged == 2:
            pku_text.parse_split(mutated_bytes(rng, self.split), "split.txt")
            return
        for number, (file, valid) in enumerate(zip(self.files, self.valid, strict=True)):
            change = swapped_tokens if number == 0 and rng.random() < 0.5 else mutated_bytes
            file.write_bytes(change(rng, valid) if number == damaged else valid)
        cut = rng.choice(("half_open", "one_based_inclusive", "zero_based_inclusive"))
        cleaned(pku_mmd.read(self.files, 1, cut, rng.choice(("stored", "energy"))))


class NwUcla:
    def __init__(self, folder):
        self.file, self.zip = folder / "a01_s01_e00_v01.json", folder / "all.zip"
        self.content = {"file_name": self.file.stem, "label": 1, "skeletons": _body(2, 20)[0].tolist()}
        self.packed = []
        for way in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", way) as archive:
                archive.writestr(f"ü/{self.file.name}", json.dumps(self.content))
            self.packed.append(stream.getvalue())

    def __call__(self, rng):
        if rng.random() < 0.6:
            self.file.write_bytes(mutated_json(rng, self.content))
            cleaned(nw_ucla.read((self.file, 0, "")), KINECT20)
            return
        self.zip.write_bytes(mutated_zip(rng, rng.choice(self.packed)))
        archives.open_archive.cache_clear()
        for source in nw_ucla.find([self.zip])[0]:
            cleaned(nw_ucla.read(source.where), KINECT20)


def _rows(values, width):
    return "".join(" ".join(map(str, row)) + "\n" for row in values.reshape(-1, width).tolist()).encode()


class Poses:
    """Every format of poses, read as ``predict`` and ``plot`` do."""

    def __init__(self, folder):
        self.folder = folder
        deep = _body(2, 20)
        flat = np.concatenate([_body(3, 17, channels=2)[0], np.full((3, 17, 1), 0.9)], -1).tolist()
        persons = [{"image_id": t, "keypoints": list(itertools.chain(*flat[t]))} for t in range(3)]
        named = [person | {"image_id": f"c2_{person['image_id']}.5.jpg", "idx": [[0.0]]} for person in persons * 2]
        mark = [{"x": 0.1 * v, "y": 0.2, "z": 0.3, "visibility": 0.9} for v in range(33)]
        self.json = {
            "json": {
                "keypoints": _body(2, 17)[0].tolist(),
                "label": "a",
                "fps": 30,
                "id": "x",
                "subject": 1,
                "layout": "coco17",
            },
            "mediapipe": {
                "frames": [{"landmarks": [mark, mark], "poseWorldLandmarks": [mark, mark]}] * 2,
                "width": 640,
                "height": 480,
            },
            "mediapipe by name": {"data": [{name: [0.1, 0.2, 0.3] for name in MEDIAPIPE33.joints}] * 2},
            "mediapipe in lists": [[[0.1, 0.2, 0.3, 0.9]] * 33] * 2,
            "coco": persons,
            "alphapose": named,
            "openpose": {"people": [{"person_id": [-1], "pose_keypoints_2d": persons[0]["keypoints"]}]},
            "mmpose": {
                "meta_info": {"keypoint_id2name": {str(n): name for n, name in enumerate(COCO17.joints)}},
                "instance_info": [
                    {"frame_id": t, "instances": [{"keypoints": [p[:2] for p in f], "keypoint_scores": [1] * 17}] * 2}
                    for t, f in enumerate(flat)
                ],
            },
            "coco-annotations": {
                "images": [{"id": t, "file_name": f"a/{t}.jpg"} for t in range(3)],
                "annotations": [person | {"track_id": 1} for person in persons],
                "categories": [{"keypoints": list(COCO17.joints)}],
            },
            "openpifpaf": {"frame": 1, "predictions": persons},
            "ultralytics": [
                [{"track_id": 1, "keypoints": {"x": [1.5] * 17, "y": [2.5] * 17, "visible": [0.9] * 17}}] * 2
            ]
            * 2,
            "nw-ucla": {"file_name": "x", "label": 1, "skeletons": deep[0].tolist()},
            "kinect-json": [[dict(zip("xyz", map(str, joint), strict=True)) for joint in frame] for frame in deep[0]],
            "azure-kinect": {
                "frames": [
                    {"timestamp_usec": t, "bodies": [{"body_id": 1, "joint_positions": frame.tolist()}]}
                    for t, frame in enumerate(_body(2, 32)[0])
                ]
            },
        }
        self.texts = {
            "msr-action3d": ("a01_s01_e01_skeleton3D.txt", _rows(np.concatenate([deep, deep[..., :1]], -1), 4)),
            "mediapipe": (
                "x.csv",
                ("class," + ",".join(f"{a}{v}" for v in range(33) for a in "xyzv")).encode()
                + b"\n"
                + b"up,"
                + _rows(_body(1, 33)[..., [0, 1, 2, 2]], 132).replace(b" ", b","),
            ),
            "utkinect": ("joints_s01_e01.txt", b"5 " + _rows(deep, 60).replace(b"\n", b"\n7 ", 1)),
            "msrc-12": ("P1_1_1_p01.csv", b"1 " + _rows(np.concatenate([deep, deep[..., :1]], -1), 80)),
            "hands": ("skeletons_world.txt", _rows(_body(2, 22), 66)),
        }
        self.arrays = {
            "keypoints": _body(2, 17),
            "confidence": np.ones((1, 2, 17)),
            "label": np.array("a"),
            "fps": np.array(30.0),
        }
        self.landmarks = [_body(3, 33)[0], _body(3, 44)[0].reshape(3, 132), _body(3, 554)[0].reshape(3, 1662)]
        rows = [f"{t},{v},1.5,2.5,0.5,0.9,0\n" for t in range(2) for v in range(17)]
        wide = [f"{joint.replace(' ', '_')}_{axis}" for joint in COCO17.joints for axis in ("x", "y", "score")]
        frames = [f"{t},{t % 2}" + ",1.5" * len(wide) + "\n" for t in range(3)]
        self.csv = (
            ("frame,joint,x,y,z,confidence,person\n" + "".join(rows)).encode(),
            (",".join(["fnum", "track", *wide]) + "\n" + "".join(frames)).encode(),
        )

    def __call__(self, rng):
        format = rng.choice((*self.json, *self.texts, "npz", "npy", "csv"))
        if format in self.json and (format not in self.texts or rng.random() < 0.7):
            data = mutated_json(rng, self.json[format])
            format, *_ = format.split()
            names = {"openpose": "x_000_keypoints.json", "openpifpaf": "x.openpifpaf.json"}
            name = names.get(format, "x.json")
        elif format in self.texts:
            name, valid = self.texts[format]
            data = (swapped_tokens if rng.random() < 0.5 else mutated_bytes)(rng, valid)
        elif format == "csv":
            name, data = "x.csv", mutated_bytes(rng, rng.choice(self.csv))
        elif format == "npz":
            name, data = "x.npz", mutated_npz(rng, self.arrays)
        else:
            array = rng.choice((self.arrays["keypoints"], *self.landmarks))
            if len(array) == 3:
                format = "mediapipe"
            array = mutated_array(rng, array) if rng.random() < 0.6 else array
            name, data = "x.npy", npy(array)
            data = mutated_bytes(rng, data) if rng.random() < 0.6 else data
        (self.folder / name).write_bytes(data)
        (self.folder / "actionLabel.txt").write_bytes(mutated_bytes(rng, b"s01_e01\nwalk: 5 7\npush: NaN NaN\n"))
        if name.endswith((".json", ".npy", ".txt", ".csv")) and rng.random() < 0.2:
            guess_format(self.folder / name)
        known = "coco17" if format == "csv" or rng.random() < 0.5 else None
        found = read_clip(
            self.folder / name,
            format,
            layout=None if name == self.texts.get(format, ("",))[0] else known,
            axes=rng.choice((None, None, "TMVC")),
            aspect=rng.choice((None, None, "16/9")),
        )
        fill_unseen(found.joints, found.skeleton)
        channels = found.joints.shape[-1]
        cleaned([Recording("x", found.joints, zeros=False)], found.skeleton, channels)


class Mocap:
    """Motion capture: text and, where its package is there, binary."""

    def __init__(self, folder):
        self.folder = folder
        sides = [f"{side}{name}" for name in ("UpLeg", "Leg", "Arm") for side in ("Left", "Right")]
        parents = ["Hips", "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "Spine"]
        tree = {"Hips": ["Spine"]}
        for name, parent in zip(sides, parents, strict=True):
            tree.setdefault(parent, []).append(name)
        channels = "Xposition Yposition Zposition Zrotation Xrotation Yrotation"

        def joint(name, kind="JOINT"):
            below = [joint(child) for child in tree.get(name, [])] or ["End Site\n{\nOFFSET 0 0 0\n}\n"]
            return f"{kind} {name}\n{{\nOFFSET 1 60 2\nCHANNELS 6 {channels}\n{''.join(below)}}}\n"

        row = " ".join(["0 60 1.5 10 -20 3e1"] * 8)
        head = f"HIERARCHY\n{joint('Hips', 'ROOT')}MOTION\nFrames: 2\nFrame Time: 0.04\n"
        names = ["RHip", "LHip", "Neck", "RShoulder", "LShoulder", "MidHip"]
        cells = "\t".join(f"{v}\t{1.7 * (v % 2)}\t-0.5" for v in range(6))
        trc = ["PathFileType\t4\t(X/Y/Z)\tx", "DataRate\tNumFrames\tUnits", "60\t2\tm"]
        trc += ["Frame#\tTime\t" + "\t\t\t".join(names), "\t\tX1", "", f"1\t0.0\t{cells}", f"2\t0.1\t{cells}", ""]
        self.valid = {"bvh": (head + f"{row}\n{row}\n").encode(), "trc": "\n".join(trc).encode()}

    def __call__(self, rng):
        format = rng.choice(tuple(self.valid))
        file = self.folder / f"x.{format}"
        file.write_bytes((swapped_tokens if rng.random() < 0.3 else mutated_bytes)(rng, self.valid[format]))
        found = read_clip(file, format)
        cleaned([Recording("x", found.joints, zeros=False)], found.skeleton, 3)


class Tables:
    """Layouts, tables of labels, lists of names."""

    def __init__(self, folder):
        self.folder = folder
        self.layout = {
            "joints": ["hip", "left hand", "right hand"], "parents": ["hip", "hip", 0], "up": [0, 1], "across": [2, 1],
            "name": "n", "pairs": [[1, 2]], "parts": {"a": [0], "b": [1, 2]}, "center": 0, "origin": "hip",
        }  # fmt: skip
        self.subset = {"base": "ntu25", "keep": ["mid spine", "head", "neck"], "up": [0, 1], "across": ["head", 2]}
        self.labels = b"id,label,subject,camera\na,wave,1,2\nb,bow,3,\n"

    def __call__(self, rng):
        match rng.randrange(4):
            case 0:
                (self.folder / "labels.csv").write_bytes(mutated_bytes(rng, self.labels))
                read_labels(self.folder / "labels.csv")
            case 1:
                (self.folder / "names.txt").write_bytes(mutated_bytes(rng, b"a\nb.skeleton\n\nc\n"))
                read_names(self.folder / "names.txt")
            case _:
                file = self.folder / rng.choice(("x.json", "x.yaml"))  # JSON is YAML
                file.write_bytes(mutated_json(rng, rng.choice((self.layout, self.subset))))
                find_layout(file)


class Arrays:
    """Processed data sets of other programs, opened and read as ``data import arrays`` does."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, path):
        opened = open_arrays(path, self.folder / "scratch")
        for source in opened.sources[:3]:
            cleaned(opened.read(source.where), opened.skeleton, opened.channels)


class CtrGcn(Arrays):
    def __init__(self, folder):
        super().__init__(folder)
        x = _body(3, 50, bodies=4).reshape(4, 3, 150)
        self.arrays = {"x_train": x[:2], "y_train": np.eye(60)[[0, 5]], "x_test": x[2:], "y_test": np.eye(60)[[3, 1]]}

    def __call__(self, rng):
        (self.folder / "x.npz").write_bytes(mutated_npz(rng, self.arrays))
        self.run(self.folder / "x.npz")


class Agcn(Arrays):
    def __init__(self, folder):
        super().__init__(folder)
        x = np.ascontiguousarray(_body(4, 25, bodies=4).transpose(0, 3, 1, 2)[..., None].repeat(2, -1))
        self.x, self.labels = x, (["a.skeleton", "b", "c", "d"], [0, 1, 2, 1])

    def __call__(self, rng):
        damaged = rng.randrange(4)
        files = {"train_data_joint.npy": npy(self.x), "train_label.pkl": pickle.dumps(self.labels)}
        if damaged == 0:
            files["train_data_joint.npy"] = mutated_bytes(rng, npy(self.x))
        elif damaged == 1:
            files["train_data_joint.npy"] = npy(mutated_array(rng, self.x))
        elif damaged == 2:
            files["train_label.pkl"] = mutated_pickle(rng, list(self.labels))
        else:
            files["train_num_frame.npy"] = mutated_bytes(rng, npy(np.array([4, 3, 2, 1])))
            files["train_label.npy"] = npy(mutated_array(rng, self.labels[1]))
        shutil.rmtree(self.folder / "agcn", ignore_errors=True)
        (self.folder / "agcn").mkdir()
        for name, data in files.items():
            (self.folder / "agcn" / name).write_bytes(data)
        self.run(self.folder / "agcn")


class Pyskl(Arrays):
    def __init__(self, folder):
        super().__init__(folder)
        flat, deep = _body(3, 17, bodies=2, channels=2), _body(3, 25, bodies=2)
        self.contents = [
            {
                "split": {"a_train": ["x", "y"], "a_val": ["z"]},
                "annotations": [
                    {"frame_dir": name, "label": 1, "total_frames": 3, "keypoint": array.copy()} | more
                    for name in "xyz"
                ],
            }
            for array, more in (
                (deep, {}),
                (flat, {"keypoint_score": np.ones((2, 3, 17), "f2"), "img_shape": (10, 20)}),
            )
        ]

        packed = {"frame_dir": "x", "total_frames": 3, "keypoint": flat[0], "frame_inds": np.array([0, 1, 1])}
        self.contents += [self.contents[0]["annotations"], {"annotations": [packed]}]

    def __call__(self, rng):
        (self.folder / "x.pkl").write_bytes(mutated_pickle(rng, rng.choice(self.contents)))
        self.run(self.folder / "x.pkl")


class Sgn(Arrays):
    def __init__(self, folder):
        super().__init__(folder)
        body = {"joints": _body(3)[0].reshape(-1, 3), "interval": [0, 1, 2], "colors": np.zeros((3, 25, 2))}
        self.content = [
            copy.deepcopy(
                {"name": f"S001C002P003R002A0{n}", "num_frames": 4, "data": {"7": body, "9": copy.deepcopy(body)}}
            )
            for n in (11, 12)
        ]

    def __call__(self, rng):
        (self.folder / "x.pkl").write_bytes(mutated_pickle(rng, self.content))
        self.run(self.folder / "x.pkl")


class NtuNpy(Arrays):
    def __init__(self, folder):
        super().__init__(folder)
        body = _body(3)[0].astype(np.float64)
        self.content = {
            "file_name": NAME,
            "nbodys": [1, 2, 1],
            "njoints": 25,
            "skel_body0": body,
            "skel_body1": body + 1,
        }

    def __call__(self, rng):
        file = self.folder / f"{NAME}.skeleton.npy"
        box = np.empty((), object)
        box[()] = mutated_values(rng, self.content, odd_in_pickle) if rng.random() < 0.7 else self.content
        try:
            data = npy(box)
        except UnicodeEncodeError:
            return
        file.write_bytes(mutated_bytes(rng, data) if rng.random() < 0.4 else data)
        self.run(file)


class Store:
    def __init__(self, folder):
        clips = [
            Recording(name, _body(2 + n, 17, seed=n, bodies=1 + n % 2, channels=2), label=n % 2)
            for n, name in enumerate("abc")
        ]
        info = DatasetInfo("mini", COCO17, ("x", "y"), reader=1, axes="as given", units="px", channels=2)
        with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
            self.path = convert(folder, info, [Source(c.id, [c], c.id) for c in clips], list, kind="memory").path
        self.valid = {file.name: file.read_bytes() for file in self.path.iterdir()}
        self.meta = json.loads(self.valid["meta.json"])
        with np.load(self.path / "index.npz") as index:
            self.index = dict(index)

    def __call__(self, rng):
        name = rng.choice(
            ("meta.json", "meta.json", "index.npz", "index.npz", "index.npz", "joints.npy", "report.json")
        )
        if name == "meta.json":
            data = mutated_json(rng, self.meta)
        elif name == "index.npz":
            data = mutated_npz(rng, self.index)
        else:
            data = mutated_bytes(rng, self.valid[name])
        (self.path / name).write_bytes(data)
        try:
            store = SkeletonStore(self.path, in_memory=rng.random() < 0.5)
            clips = store.clips(range(len(store)), 2)
            assert clips.label.max() < len(store.meta["classes"])
            assert (clips.first < clips.frames).all()
            store.recording(len(store) - 1)
            statistics(store)
            assert isinstance(store.rebuild_hint, str)
            assert store.report["summary"] is not None
        finally:
            (self.path / name).write_bytes(self.valid[name])


class Checkpoints:
    def __init__(self, folder):
        self.file = folder / "x.ckpt"
        weight = torch.arange(6.0).reshape(2, 3)
        config = (
            "model:\n  class_path: skelcl.methods.ASCAL\n  init_args: {encoder: {class_path: skelcl.encoders.LSTM}}\n"
        )
        config += "data: {class_path: skelcl.data.NWUCLA, init_args: {root: data}}\ntrainer: {max_epochs: 1}\n"
        self.content = {
            "state_dict": dict.fromkeys(("encoder.weight", "fc.weight", "conv1m.0.weight", "fc8.weight"), weight),
            "skelcl_config": config, "epoch": 1, "hyper_parameters": {"a": [1, 2.5]},
            "optimizer_states": [{"state": {0: weight}}],
            FACTS_KEY: {
                "dataset": "nw-ucla", "split": "test_view 3", "skeleton": KINECT20.to_dict(), "channels": 3,
                "num_persons": 1, "classes": ["a", "b"], "recipe": "none", "units": "m", "axes": "y up", "fps": None,
                "counts": {"train": 2, "test": 1}, "digest": "0" * 64, "source": "files", "parameters": {"cut": True},
            },
        }  # fmt: skip

    def __call__(self, rng):
        content = mutated_values(rng, self.content, self._odd) if rng.random() < 0.7 else self.content
        if isinstance(content, dict) and rng.random() < 0.4:
            config = mutated_bytes(rng, self.content["skelcl_config"].encode())
            content = {**content, "skelcl_config": config.decode("latin-1")}
        try:
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=rng.random() < 0.7)
        except (UnicodeEncodeError, RuntimeError):
            return
        self.file.write_bytes(mutated_zip(rng, stream.getvalue()) if rng.random() < 0.4 else stream.getvalue())
        if rng.random() < 0.5:
            recognise(find_state(read_file(self.file)))
        else:
            read_checkpoint(self.file)
            stored_config(self.file)
            read_data_facts(self.file)

    @staticmethod
    def _odd(rng, old=None):
        return torch.zeros(rng.choice(((), (0,), (1, 2), (3, 2, 1)))) if rng.random() < 0.3 else odd(rng, None)


KINDS = {
    "ntu": (Ntu, 16), "pku": (Pku, 12), "nw-ucla": (NwUcla, 10), "poses": (Poses, 12), "mocap": (Mocap, 4),
    "tables": (Tables, 8), "ctr-gcn": (CtrGcn, 6), "agcn": (Agcn, 5), "pyskl": (Pyskl, 6), "sgn": (Sgn, 6),
    "ntu-npy": (NtuNpy, 6), "store": (Store, 6), "checkpoint": (Checkpoints, 3),
}  # fmt: skip
"""Kind → what writes and opens its cases, and its share of them in percent."""
