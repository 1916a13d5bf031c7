"""Stands for `skelcl fit` in the tests of sweeps: same folders and files, no training, no imports that take seconds.

The objective of an epoch is a closed form of --x and the epoch, and each epoch takes --seconds. Ends with its sweep, as
real trials do.
"""

import json
import sys
import threading
import time
from pathlib import Path

from skelcl.sweeps.child import end_with_the_sweep

EPOCHS = 4


if __name__ == "__main__":
    threading.Thread(target=end_with_the_sweep, daemon=True).start()
    options = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[2:])
    logger = json.loads(options["trainer.logger"])["init_args"]
    trial = Path(logger["save_dir"]) / logger["name"]
    version = trial / f"version_{len(list(trial.glob('version_*')))}"
    (version / "checkpoints").mkdir(parents=True)
    x = float(options["x"])
    if x == -1:
        sys.exit("skelcl: error: x must not be -1")
    start = int(Path(options["ckpt_path"]).read_text()) if "ckpt_path" in options else 0
    metrics = version / "metrics.csv"
    metrics.write_text("epoch,step,train/loss,val/knn_top1\n")
    for epoch in range(start, EPOCHS):
        time.sleep(float(options.get("seconds", 0)))
        with metrics.open("a") as file:
            file.write(f"{epoch},{epoch},,{x * (epoch + 1) / EPOCHS}\n{epoch},{epoch},0.5,\n")
        (version / "checkpoints" / "last.ckpt").write_text(str(epoch + 1))
