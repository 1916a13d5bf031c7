#!/bin/sh
# What `make demo` runs: the commands of a newcomer, from raw files to numbers and pictures, on generated people.
# Everything lands in one folder; a demo that was killed starts clean.
set -eu
out=demo
skelcl=${BIN:-.venv/bin}/skelcl
run=experiments/pretrain/as_cal-nw_ucla.yaml
last=$out/runs/demo/version_0/checkpoints/last.ckpt
export PYTHONWARNINGS=ignore

step() {
    printf '\n\033[1m%s\033[0m\n' "$*"
    "$@"
}

rm -rf "$out/raw" "$out/data" "$out/runs"
mkdir -p "$out"
step "$skelcl" data generate nw-ucla --output "$out/raw" --subjects 8 --episodes 3
step "$skelcl" data prepare nw-ucla --raw "$out/raw" --root "$out/data"
step "$skelcl" data check nw-ucla --root "$out/data"
step "$skelcl" fit --config $run --config experiments/overlays/demo.yaml \
    --data.root "$out/data" --trainer.logger.init_args.save_dir "$out/runs"
step "$skelcl" plot views --ckpt_path "$last" --output "$out/views.gif"
step "$skelcl" test --ckpt_path "$last"
cat <<END

Done. The table above is what the run learned; look at
  $out/runs/demo/version_0/   the training run: config.yaml, metrics.csv, checkpoints/last.ckpt
  $out/runs/demo/version_1/   its test: results.json, per_class.csv, confusion.png, embedding.png
  $out/views.gif              one clip as the encoder sees it, before and after augmentation
Next: the real NW-UCLA, three commands in README.md.
END
