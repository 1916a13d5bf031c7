#!/bin/bash
#SBATCH --job-name=skelcl
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120

# A run on SLURM, on as many nodes as the lines above or sbatch say; time limits and preemption cost one epoch at most.
#
#   sbatch experiments/scale/slurm.sh experiments/pretrain/scd_net-ntu60.yaml --data.batch_size 16
#   sbatch --array=0-2 experiments/scale/slurm.sh RUN      seeds 0, 1 and 2, a job each
#   sbatch --nodes=2 experiments/scale/slurm.sh RUN [options of skelcl fit]
#
# One task per GPU. Lightning finds SLURM's variables by itself. Two minutes before the end SLURM signals this shell
# (B:), not the tasks, and the job is queued again under the same number. It goes on with the last finished epoch, which
# is exact: Lightning's own requeuing would save in the middle of an epoch, where the order of the clips is lost.
set -eu
run=$1
shift
name=$(basename "$run" .yaml)-$SLURM_JOB_ID
where='[{class_path: CSVLogger, init_args: {save_dir: runs, name: '$name'}}]'

# The newest checkpoint that this job wrote before it was interrupted, and that can be opened. It carries its config.
last=
while IFS= read -r file; do
    if skelcl checkpoint inspect "$file" > /dev/null; then
        last=$file
        break
    fi
    echo "$file is left out" >&2
done < <(ls -t "runs/$name"/version_*/checkpoints/last.ckpt 2> /dev/null)
if [ -n "$last" ]; then
    start=(--ckpt_path "$last")
else
    start=(--config "$run" --trainer.logger "$where")
fi

trap 'scontrol requeue "$SLURM_JOB_ID"' USR1

srun --kill-on-bad-exit=1 skelcl fit "${start[@]}" \
    --trainer.num_nodes "$SLURM_JOB_NUM_NODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" --trainer.strategy ddp \
    ${SLURM_ARRAY_TASK_ID:+--seed_everything "$SLURM_ARRAY_TASK_ID"} "$@" &
# In the background and waited for, or the shell would answer to the signal only when srun has ended.
training=$! code=0
wait "$training" || code=$?
if [ "$code" -eq 138 ]; then # 128 + USR1: the signal ended the waiting, not the training
    code=0
    wait "$training" || code=$?
fi
exit "$code"
