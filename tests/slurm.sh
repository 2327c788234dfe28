#!/bin/bash
# The batch files of pipelines/slurm/, with programs in place of Slurm's: srun runs the tasks here, one process each. Prints TAP.
# usage: [BUILD=build] tests/slurm.sh
set -u
. "$(dirname "$0")/support/apart.sh"
export CCLD_DEVICE=cpu

mkdir bin
cat >bin/srun <<'END'
#!/bin/bash
# srun --OPTION=VALUE... COMMAND...: runs $SLURM_NTASKS tasks on hosts of two GPUs. The status is the highest.
echo "srun $*" >>"$WORK/called"
while [[ $1 = -* ]]; do shift; done
pids=() highest=0
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$((task % 2)) "$@" &
    pids+=($!)
done
echo "${pids[@]}" >"$WORK/pids"
for pid in "${pids[@]}"; do
    status=0
    wait "$pid" || status=$?
    highest=$((status > highest ? status : highest))
done
exit $highest
END
printf '#!/bin/bash\necho "scontrol $*" >>"$WORK/called"\n' >bin/scontrol
chmod +x bin/*
export WORK=$work
batch() { # FILE TASKS VARIABLE=VALUE...: as sbatch would, from another folder
    local file=$top/pipelines/slurm/$1.sbatch tasks=$2
    shift 2
    : >called
    env PATH="$work/bin:$PATH" SLURM_NTASKS="$tasks" SLURM_JOB_ID=17 SLURM_CPUS_PER_TASK=1 "$@" bash "$file" >log 2>&1
}
paths() { ccld-shards ls "$1" | awk -F '\t' '{ print $(NF - 1) }' | sort; }

"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
"$build/tests/synth/shapes" -q -o images -n 40 --size 32 --pairs pairs.tsv || exit 2
cut -f 1 pairs.tsv | sort >list
cp images/000001.png 'images/a name.png'
rm images/*.txt 2>/dev/null
find images -type f | sort >all

encode() { # STORE TASKS VARIABLE=VALUE...
    local store=$1 tasks=$2
    shift 2
    batch encode "$tasks" STORE="$store" MODEL=model OPTIONS='--size 64 --threads 1' "$@"
}
encode shards 4 IMAGES=images DEVICE=cpu && paths shards | cmp - all >>log 2>&1 && [ "$(ls shards/parts | wc -l)" = 4 ]
ok $? 'four tasks encode a folder of images'
ccld-encode -q -m model --size 64 --part 3/4 -o third <list 2>>log
ccld-shards ls third | cut -f 2 | cmp - <(ccld-shards ls shards/parts/2 | cut -f 2 | grep -v 'a name') >>log 2>&1
ok $? 'each its part of the list'
encode shards 4 LIST=list DEVICE=cpu && [ "$(grep -c ': 0 encoded' log)" = 4 ]
ok $? 'a job that is submitted again encodes nothing'
cp images/000002.png images/new.png
find images -type f | sort >all
for tasks in 3 6; do
    encode shards $tasks IMAGES=images DEVICE=cpu && paths shards | cmp - all >>log 2>&1 && [ "$(ls shards/parts | wc -l)" = 4 ]
    ok $? "nor does one with $tasks tasks, which only adds a new image"
done
ccld-encode -q -m model --size 64 -o shards <all 2>log && ccld-shards verify shards 2>>log
ok $? 'ccld-encode without Slurm adds to the same store'
encode bad 2 LIST=list DEVICE=cpu OPTIONS='--size 64 --max-pixels 1'
[ $? = 1 ]
ok $? 'the status is that of the tasks'
CCLD_CUDA_PLUGIN=$build/tests/cuda-host/libccld-cuda-host.so CCLD_EMULATED_GPUS=2 XDG_CACHE_HOME=$work \
    encode gpus 3 LIST=<(head -n 9 list) OPTIONS='--size 64 --threads 1 -v'
[ "$(grep -c "computing on 'cuda'" log)" = 3 ]
ok $? 'each task uses the GPU of its number on its host'
for missing in STORE MODEL; do
    ! batch encode 2 STORE=never MODEL=model IMAGES=images $missing= && grep -q "$missing: set it to" log && [ ! -s called ]
    ok $? "$missing is needed"
done

fit() { # VARIABLE=VALUE...
    batch fit 1 STORE=shards RUN=run INIT_FROM=model/diffusion.safetensors OPTIONS='-q -b 1 --seed 7 --checkpoint-every 2' "$@"
}
fit STEPS=2 && [ "$(readlink run/latest)" = step-00000002 ] && ! grep -q scontrol called
ok $? 'fit.sbatch trains to its last step'
grep -q -- '^srun --kill-on-bad-exit=1 --mpi=pmix --gpu-bind=none ccld-fit shards -o run --init-from' called
ok $? 'with MPI, one task per GPU'
fit STEPS=4 MPI=pmi2 && [ "$(readlink run/latest)" = step-00000004 ] && grep -q -- '--mpi=pmi2 .*ccld-fit --resume run' called
ok $? 'and resumes'
fit STEPS=100000 &
parent=$!
until [ "$(readlink run/latest)" != step-00000004 ]; do
    kill -0 $parent 2>/dev/null || break
    sleep 0.02
done
kill -USR1 $(cat pids) # as Slurm does before the time limit
wait $parent
[ $? = 0 ] && grep -qx 'scontrol requeue 17' called
ok $? 'a job stopped before its time limit queues again'
! fit STEPS=100000 OPTIONS='--no-such-option' && ! grep -q scontrol called && grep -q 'run is at step-[0-9]*, not at step 100000' log
ok $? 'one that fails does not'

echo "1..$number"
exit $((failed > 0))
