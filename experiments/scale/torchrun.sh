#!/bin/sh
# A run on several machines without a scheduler, or on all devices of one. The same line on each of them:
#
#   NODES=2 DEVICES=8 HEAD=node-0:29500 sh experiments/scale/torchrun.sh \
#       experiments/pretrain/scd_net-ntu60.yaml --data.batch_size 4
#
# NODES machines (1) with DEVICES processes each (1) meet at HEAD, one of the machines and a free port. Options of
# skelcl fit may follow the run. In its place, to resume on as many processes: --ckpt_path
# runs/X/version_0/checkpoints/last.ckpt
set -eu
case ${1:?the run file is missing, or --ckpt_path FILE} in
-*) ;;
*) set -- --config "$@" ;;
esac
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NODES:-1}" --nproc-per-node "${DEVICES:-1}" \
    --rdzv-backend c10d --rdzv-endpoint "${HEAD:-localhost:0}" --rdzv-id skelcl \
    -m skelcl fit "$@" \
    --trainer.num_nodes "${NODES:-1}" --trainer.devices "${DEVICES:-1}" --trainer.strategy ddp
