#!/bin/bash
# Ranks that srun starts, under a Slurm of one node that this test starts with a configuration of its own: the
# same bytes as with forked ranks, and ranks that are stopped, killed or started in the wrong way. Prints TAP.
# Needs root, Open MPI, Slurm and MUNGE; else all is skipped.
# usage: [BUILD=build] tests/mpi/srun.sh
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$top" && cd "${BUILD:-build}" && pwd) || exit 2
export PATH="$build:$PATH:/usr/sbin:/sbin" LC_ALL=C CCLD_DEVICE=cpu
unset CCLD_MODEL CCLD_MPI_PLUGIN CCLD_WATCHDOG

skip() {
    echo "1..0 # SKIP $1"
    exit 0
}
for program in munged:munge slurmctld:slurmctld slurmd:slurmd srun:slurm-client; do
    command -v ${program%:*} >/dev/null || skip "${program%:*} is missing (Debian package ${program#*:})"
done
[ -e "$build/libccld-mpi.so" ] || skip 'the MPI plugin is not built (MPI=1)'
[ "$(id -u)" = 0 ] || skip 'slurmd needs root'

work=$(mktemp -d) || exit 2
clean_up() {
    scancel --user root >/dev/null 2>&1
    kill -KILL $(left) 2>/dev/null
    sleep 0.5 # for slurmstepd
    kill $(jobs -p) 2>/dev/null
    wait
    rm -rf "$work"
}
# Processes of this test's trainers; srun finds the program's path.
left() {
    pgrep -f "^[^ ]*ccld-fit.* -o $work/"
}
trap clean_up EXIT
trap 'exit 1' INT TERM
cd "$work" || exit 2
exec 2>stderr # where the shell reports processes that are killed
. "$top/tests/support/tap.sh"
. "$top/tests/support/runs.sh"
resume_with='--batch-size 1'

port=$((20000 + $$ % 20000)) host=$(hostname -s)
mkdir state spool munge && chmod 711 "$work" && chmod 700 munge
dd if=/dev/urandom of=munge/key bs=1 count=1024 status=none && chmod 600 munge/key
cat >slurm.conf <<END
ClusterName=ccld
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthInfo=socket=$work/munge/socket
SlurmUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=4
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
echo 'CgroupPlugin=cgroup/v1' >cgroup.conf
export SLURM_CONF=$work/slurm.conf
srun --mpi=list 2>&1 | grep -q pmix || skip 'Slurm has no PMIx'
munged --foreground --force --key-file=munge/key --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
    --seed-file="$work/munge/seed" --log-file="$work/munge/log" 2>munge/out &
for i in $(seq 50); do [ -S munge/socket ] && break; sleep 0.1; done
slurmctld -D -c >slurmctld.out 2>&1 &
slurmd -D -N "$host" >slurmd.out 2>&1 &
for i in $(seq 100); do [ "$(sinfo -h -o %t 2>/dev/null)" = idle ] && break; sleep 0.2; done
if [ "$(sinfo -h -o %t 2>>log)" != idle ]; then
    tail -n 20 slurmctld.out slurmd.out slurmctld.log slurmd.log munge/log | sed 's/^/# /'
    skip 'Slurm does not start here'
fi

"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
"$build/tests/synth/shapes" -q -o images -n 40 --size 32 --pairs pairs.tsv || exit 2
cut -f 1 pairs.tsv >list
ccld-encode -q -m model --size 64 -o shards <list 2>log || exit 2
fit="ccld-fit -q --lr 1e-3 --init-from $work/model/diffusion.safetensors --log-every 1 --holdout 4 --holdout-every 3 --seed 7 --threads 2"
fit_autoencoder="ccld-fit-autoencoder -q --size 32 --base-channels 32 --channel-multipliers 1,2 --blocks 1
    --lr 1e-3 --holdout 5 --holdout-every 3 --log-every 1 --seed 7 --threads 2"
srun='srun -K1 --mpi=pmix'

for program in fit fit_autoencoder; do
    begin="${!program} $([ $program = fit ] && echo shards) -b 1 --steps 6"
    $begin --accumulate 2 --devices 2 -o $program-forked <list >log 2>&1
    ok $? "$program on 2 forked ranks"
    $srun -n 2 $begin --accumulate 2 -o "$work/$program-2" <list >log 2>&1 && same $program-forked $program-2 >>log 2>&1
    ok $? '2 tasks of srun end in the same weights and optimizer, bit for bit'
    $srun -n 4 $begin -o "$work/$program-4" <list >log 2>&1 && same $program-forked $program-4 >>log 2>&1
    ok $? 'so do 4'
done
$srun -n 1 $fit shards -b 1 --accumulate 4 --steps 6 -o one >log 2>&1 && same fit-forked one >>log 2>&1
ok $? 'so does a single task'
srun --mpi=none -n 2 $fit shards -b 1 --steps 2 -o never >log 2>&1
grep -qx 'ccld-fit: cannot join the ranks that were started together: the 2 tasks cannot find one another: use srun --mpi=pmix' log
ok $? 'srun --mpi=none is refused with advice'
srun --mpi=none -n 1 $fit shards -b 1 --steps 2 -o alone >log 2>&1
ok $? 'but not with a single task'
# What a build without the plugin says.
mkdir without && cp "$build/ccld-fit" without
$srun -n 2 without/$fit shards -b 1 --steps 2 -o never >log 2>&1
grep -qx "ccld-fit: cannot join the ranks that were started together: this build has no MPI (libccld-mpi.so is not beside the program): build it with 'make MPI=1'" log
ok $? 'without the plugin, a message says how to build it'
$srun -n 1 without/$fit shards -b 1 --steps 2 -o without-1 >log 2>&1
ok $? 'and a single task runs'
# A batch script is no launcher, even if it asks for several tasks.
printf '#!/bin/sh\nexec %s %s/shards -b 1 --accumulate 4 --steps 6 -o %s/batch\n' "$fit" "$work" "$work" >script
sbatch -W -n 4 -o "$work/batch.log" script >log 2>&1 && same fit-forked batch >>log 2>&1
status=$?
cat batch.log >>log
ok $status 'in a batch script without srun, a single process runs alone'

long="$fit $work/shards -b 1 --steps 100000 --checkpoint-every 5 --keep 2"
start() { # RUN [OPTION]...
    local run=$1
    shift
    rm -rf "$run"
    $srun -n 2 "$@" $long -o "$work/$run" >log 2>&1 </dev/null &
    launcher=$!
    started "$run" SLURM_PROCID && [ ${#ranks[@]} = 2 ]
}
start stopped && scancel --signal USR1 --user root && gone 20
ok $? 'SIGUSR1 from scancel ends all ranks'
wait $launcher
[ $? = 0 ] && ! grep -q 'rank' log && resumes stopped
ok $? 'with a checkpoint, from which the run resumes'
start killed && begun=$(date +%s%N) && kill -KILL "${ranks[1]}" && gone 4
ok $? "with -K1, SIGKILL to a rank ends all within seconds ($((($(date +%s%N) - begun) / 1000000)) ms)"
wait $launcher
[ $? != 0 ] && grep -q "^ccld-fit: rank 1 ($host, process ${ranks[1]}) has ended" log && resumes killed
ok $? 'and the rank is named; the last checkpoint resumes'
export CCLD_WATCHDOG=3
start hung && kill -STOP "${ranks[1]}" && gone 20
ok $? 'a rank that hangs ends all after the time in CCLD_WATCHDOG'
wait $launcher
[ $? != 0 ] && grep -q "^ccld-fit: rank 0 ($host): waited [0-9]* seconds for other ranks in an\? [a-z ]*: the run ends, the last checkpoint stays\$" log && resumes hung
ok $? 'and the one that waited says so; the last checkpoint resumes'
unset CCLD_WATCHDOG

[ $failed = 0 ] || sed 's/^/# /' stderr
# The batch files, with two tasks.
batch() { # FILE
    sbatch --wait -n 2 --cpus-per-task=1 -o "$work/batch.log" --signal=USR1@20 "$top/pipelines/slurm/$1.sbatch" >log 2>&1
    local status=$?
    cat batch.log >>log
    return $status
}
export LIST=$work/list STORE=$work/batch MODEL=$work/model BIN=$build DEVICE=cpu OPTIONS='-q --size 64'
batch encode && [ "$(ccld-shards ls "$STORE" | wc -l)" = 40 ] && [ -d "$STORE/parts/1" ]
ok $? 'encode.sbatch encodes a part with each task'
export RUN=$work/batch-run STEPS=5 INIT_FROM=$work/model/diffusion.safetensors MODEL='' OPTIONS='-q -b 2 --lr 1e-3 --seed 7'
batch fit && ccld-fit $OPTIONS --init-from "$INIT_FROM" "$STORE" --devices 2 --steps 5 -o batch-forked 2>>log &&
    same batch-forked batch-run >>log 2>&1
ok $? 'fit.sbatch trains with both, with the same result as two forked ranks'

echo "1..$number"
exit $((failed > 0))
