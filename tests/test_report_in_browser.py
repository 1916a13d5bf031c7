"""From a checkpoint to the report page: one command makes it, a browser shows a clip that moves."""

import json
import time
from pathlib import Path

import pytest
from PIL import Image

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]
RUNS = {
    "pretrain/as_cal-nw_ucla": ["--model.queue_size=16", "--data.batch_size=16"],
    "pretrain/sds_cl-nw_ucla-small": ["--data.batch_size=8"],
    "pretrain/scd_net-nw_ucla-small": ["--data.batch_size=8"],
    "supervised/std_cl-ctr_gcn-nw_ucla": [
        "--data.batch_size=8",
        "--model.encoder.widths=[16,16]",
        "--model.encoder.strides=[2,2]",
        "--model.positives=2",
        "--model.negatives=8",
    ],
}


def shows_a_moving_skeleton(chromium, report):
    """Points at a clip of the map until its skeleton was seen in two places."""
    from selenium.webdriver import ActionChains

    chromium.get(report.resolve().as_uri())
    canvas = chromium.find_element("css selector", "canvas.map")
    chromium.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    width, height = canvas.size["width"], canvas.size["height"]
    for step in range(1, 400):  # a walk over the map, until the mouse meets a point
        x, y = (step * 37) % (width - 48) + 24, (step * 53) % (height - 48) + 24
        place = round(x - width / 2), round(y - height / 2)
        ActionChains(chromium, duration=0).move_to_element_with_offset(canvas, *place).perform()
        if chromium.execute_script("return document.querySelector('.info dd')?.innerText"):
            break
    stage = chromium.find_element("css selector", "canvas.stage")
    pictures, end = set(), time.monotonic() + 30
    while len(pictures) < 2 and time.monotonic() < end:
        pictures.add(chromium.execute_script("return arguments[0].toDataURL()", stage))
    assert len(pictures) > 1
    assert chromium.get_log("browser") == []
    return chromium.execute_script("return document.querySelector('.info dd').innerText")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("run", RUNS)
def test_a_checkpoint_of_each_method_makes_a_page(run, skelcl, ucla, chromium, tmp_path):
    name = run.rpartition("/")[2]
    config = str(EXPERIMENTS / f"{run}.yaml")
    skelcl("fit", "--config", config, f"--data.root={ucla}", *QUICK, *RUNS[run])
    folder = Path(f"runs/{name}/version_0")
    skelcl("evaluate", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt"), "--protocols", "knn,retrieval")
    found = json.loads((folder / "evaluation" / "results.json").read_text())
    assert 0 <= found["metrics"]["test/knn_top1"] <= 1
    # Of SDS-CL those of both streams, which are more than its encoder's.
    assert f", {found['feature_width']} features" in (folder / "evaluation" / "table.md").read_text()
    assert shows_a_moving_skeleton(chromium, folder / "evaluation" / "report.html")
    chromium.save_screenshot(str(tmp_path / "page.png"))
    with Image.open(tmp_path / "page.png") as picture:
        assert len(picture.getcolors(1 << 24)) > 100
