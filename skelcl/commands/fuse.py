"""``skelcl fuse``: the scores of several streams added up, beside each of them."""

from __future__ import annotations

from pathlib import Path

from skelcl.errors import InputError
from skelcl.evaluation.fusion import Space, chosen_weights, fuse_scores, fused_result, read_scores
from skelcl.evaluation.report import column_heads, percent_table
from skelcl.evaluation.tested_runs import record_text
from skelcl.files import atomic_write


def fuse(runs: list[Path], weights: str = "equal", space: Space = "logits", output: Path | None = None) -> None:
    """Add up the scores of several streams and judge the sum; nothing is fitted to the labels.

    Clips are joined by their names. The table shows each stream beside the fusion: top-1, top-5 and mean-class accuracy
    in percent, on the test part and, where the files tell it, on the clips of it that are no copies of training clips.

    Args:
        runs: Folders of tested runs, or scores.npz files.
        weights: equal; or weights published with a method, by stream: ctr-gcn, hyperformer-ntu, hyperformer-ucla, agcn,
            pyskl, csre-ntu, csre-ucla, aimclr; or numbers in the order of the files, like 0.6,0.6,0.4,0.4.
        space: What is summed: logits as they are, as the published codes do, their softmax or their log-softmax.
        output: File for the fused scores, of the same form as its sources (.npz); or for a record of the fusion
            (.json), a row of `skelcl results` named like the file, where results.json lies beside all scores.

    Raises:
        InputError: If a file cannot be used or the files are not of the same clips.
    """
    if output is not None and output.suffix not in (".json", ".npz"):
        raise InputError(f"{output}: the name of a file of scores ends in .npz, that of a record in .json")
    scores = [read_scores(Path(run)) for run in runs]
    chosen = chosen_weights(weights, scores)
    fused = fuse_scores(scores, chosen, space)
    rows = [one.accuracies() for one in [*scores, fused]]
    # What only some of the files tell cannot be compared.
    columns = [key for key in rows[-1] if all(key in row for row in rows)]
    heads = column_heads(columns)
    titles = [f"{one.stream} × {weight:g}" for one, weight in zip(scores, chosen, strict=True)]
    numbered = [f"{i + 1} {title}" if titles.count(title) > 1 else title for i, title in enumerate(titles)]
    table = {title: [row[key] for key in columns] for title, row in zip([*numbered, "fused"], rows, strict=True)}
    print(f"accuracies in %, {len(fused.id)} clips, weights {weights}, sum of {space}")
    print(percent_table(heads, table))
    for title, one in zip(numbered, scores, strict=True):
        print("\n! ".join([f"{title}: {one.source}", *one.remarks]))
    if output is not None:
        if output.suffix == ".npz":
            fused.write(output)
        else:
            record = record_text([fused_result(output.stem, scores, fused, chosen, space)])
            with atomic_write(output) as part:
                part.write_text(record, encoding="utf-8")
        print(f"wrote {output}")
