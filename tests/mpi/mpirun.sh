#!/bin/bash
# Ranks that mpirun starts on two hosts, which are network namespaces of this machine: the same bytes as with
# forked ranks, and hosts or ranks that differ, die, hang or lose their connection. Prints TAP.
# Needs root, Open MPI and ip (iproute2); else all is skipped.
# usage: [BUILD=build] tests/mpi/mpirun.sh
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$top" && cd "${BUILD:-build}" && pwd) || exit 2
export PATH="$build:$PATH:/usr/sbin:/sbin" LC_ALL=C CCLD_DEVICE=cpu
unset CCLD_MODEL CCLD_MPI_PLUGIN CCLD_WATCHDOG

skip() {
    echo "1..0 # SKIP $1"
    exit 0
}
command -v mpirun >/dev/null && mpirun --version | grep -q 'Open MPI' || skip 'there is no mpirun of Open MPI (make deps MPI=1)'
[ -e "$build/libccld-mpi.so" ] || skip 'the MPI plugin is not built (MPI=1)'
[ "$(id -u)" = 0 ] || skip 'network namespaces need root'
command -v ip >/dev/null || skip 'ip is missing (Debian package iproute2)'

work=$(mktemp -d) || exit 2
net=ccld$$
clean_up() {
    kill -KILL $(jobs -p) $(ip netns pids $net-a) $(ip netns pids $net-b) $(left) 2>/dev/null
    ip netns del $net-a 2>/dev/null
    ip netns del $net-b 2>/dev/null
    rm -rf "$work"
}
# Processes of this test's trainers, and all that mpirun has started.
left() {
    pgrep -f "^ccld-fit.* -o $work/"
}
trap clean_up EXIT
trap 'exit 1' INT TERM
cd "$work" || exit 2
exec 2>stderr # where the shell reports processes that are killed
. "$top/tests/support/tap.sh"
. "$top/tests/support/runs.sh"
resume_with='--batch-size 1'

# Host a runs mpirun, which reaches b by `remote`. The name of each host is its own.
ip netns add $net-a && ip netns add $net-b &&
    ip link add va netns $net-a type veth peer name vb netns $net-b &&
    ip -n $net-a addr add 10.213.0.1/24 dev va && ip -n $net-b addr add 10.213.0.2/24 dev vb &&
    for h in a b; do ip -n $net-$h link set lo up && ip -n $net-$h link set v$h up; done 2>log ||
    skip 'network namespaces cannot be created here'
cat >on <<END
#!/bin/sh
# usage: on HOST COMMAND...: runs it on that host
host=\$1
shift
exec nsenter --net=/run/netns/$net-\$host unshare --uts sh -c 'hostname host-'\$host' && exec "\$@"' sh "\$@"
END
cat >remote <<END
#!/bin/sh
# In place of ssh: its arguments are options, the host and a command line.
while [ "\${1#-}" != "\$1" ]; do shift; done
shift
exec $work/on b sh -c "\$*"
END
chmod +x on remote
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm_rsh_agent=$work/remote
export OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_tcp_if_include=10.213.0.0/24 OMPI_MCA_oob_tcp_if_include=10.213.0.0/24
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
mpirun_on() ( # HOSTS ARGUMENT...: e.g. 10.213.0.1:2,10.213.0.2:1
    local hosts=$1
    shift
    exec ./on a mpirun -x PATH ${CCLD_WATCHDOG:+-x CCLD_WATCHDOG} --host "$hosts" "$@"
)
a=10.213.0.1 b=10.213.0.2

for n in 1 2 3 4 5; do
    mpirun --oversubscribe -x CCLD_MPI_PLUGIN="$build/libccld-mpi.so" -n $n "$build/tests/mpi/collective_mpi" >log 2>&1
    ok $? "the collectives of $n ranks on one host"
done
[ "$(mpirun_on $a:1,$b:1 hostname | sort | paste -sd ' ')" = 'host-a host-b' ] || { ok 1 'two hosts'; echo "1..$number"; exit 1; }
mpirun_on $a:2,$b:3 -x CCLD_MPI_PLUGIN="$build/libccld-mpi.so" "$build/tests/mpi/collective_mpi" >log 2>&1
ok $? 'the collectives of 5 ranks on two hosts'

"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
"$build/tests/synth/shapes" -q -o images -n 40 --size 32 --pairs pairs.tsv || exit 2
cut -f 1 pairs.tsv >list
ccld-encode -q -m model --size 64 -o shards <list 2>log || exit 2
head -n 39 list | ccld-encode -q -m model --size 64 -o fewer 2>log || exit 2

fit="ccld-fit -q --lr 1e-3 --init-from $work/model/diffusion.safetensors --log-every 1 --holdout 4 --holdout-every 3 --seed 7 --threads 2"
fit_autoencoder="ccld-fit-autoencoder -q --size 32 --base-channels 32 --channel-multipliers 1,2 --blocks 1
    --lr 1e-3 --warmup 2 --clip-grad 1 --flip --holdout 5 --holdout-every 3 --demo-every 3 --demo-pictures 3
    --disc-start 3 --log-every 1 --seed 7 --threads 2"
fit_cloob="ccld-fit-cloob -q --image-size 16 --patch-size 8 --width 64 --layers 1 --text-width 64 --text-layers 1
    --vocabulary 600 --embed 32 --lr 3e-4 --warmup 4 --lr-schedule constant --size 24 --flip --holdout 7
    --holdout-every 3 --log-every 1 --seed 3 --threads 2"
ended() { # SECONDS: ranks, not mpirun
    local i
    for i in $(seq $(($1 * 20))); do
        [ -z "$(left)" ] && return
        sleep 0.05
    done
    return 1
}

for program in fit fit_autoencoder fit_cloob; do
    case $program in
    fit) input=/dev/null data=shards ;;
    fit_autoencoder) input=list data= ;;
    fit_cloob) input=pairs.tsv data= ;;
    esac
    begin="${!program} $data -b 1 --steps 6"
    $begin --accumulate 4 -o $program-1 <$input >log 2>&1 && $begin --devices 4 -o $program-4 <$input >>log 2>&1
    ok $? "$program on 1 rank and on 4 forked ones"
    mpirun_on $a:2,$b:2 $begin -o "$work/$program-mpi" <$input >log 2>&1
    ok $? 'on 4 ranks on two hosts'
    same $program-1 $program-4 >log 2>&1 && same $program-1 $program-mpi >>log 2>&1
    ok $? 'ends in the same weights and optimizer, bit for bit'
done
cmp fit_autoencoder-{1,mpi}/demo/00000006.png >log 2>&1
ok $? 'and demo images; all ranks have the list from standard input'
mpirun_on $a:1,$b:1 ccld-fit --resume "$work/fit-mpi" --steps 7 >log 2>&1 </dev/null && $fit shards -b 1 --accumulate 4 --steps 7 -o fit-7 2>>log
grep -q -- '--devices 2 instead of 4, --accumulate 2 instead of 1' log && same fit-7 fit-mpi >>log 2>&1
ok $? 'a run is resumed on another number of ranks'
ccld-fit -q --resume fit-mpi --steps 8 2>log
ok $? 'and without a launcher'

# Options and files that are refused.
mpirun -n 2 $fit shards --devices 2 -o never >log 2>&1
grep -qx 'ccld-fit: mpirun or srun has started 2 ranks: --devices cannot be given' log && ! grep -q 'ccld-fit: rank' log
ok $? '--devices is refused'
mpirun -n 2 $fit no/such/store -b 1 -o never >log 2>&1
[ "$(grep -c '^ccld-fit: ' log)" = 1 ] && grep -q "^ccld-fit: .*no/such/store" log
ok $? 'an error of all ranks is printed once'
CCLD_MPI_PLUGIN=/no/such/plugin.so mpirun -n 2 $fit shards -b 1 -o never >log 2>&1
grep -q '^ccld-fit: cannot join the ranks that were started together: cannot load MPI: /no/such/plugin.so' log
ok $? 'a plugin that cannot be loaded is named'
mpirun -n 1 $fit shards -b 1 --accumulate 4 --steps 6 -o one >log 2>&1 && same fit-1 one >>log
ok $? 'a single task runs alone'

cat >own-store <<END
#!/bin/sh
# On host b, another store.
[ "\$(hostname)" = host-a ] && exec $fit $work/shards "\$@"
exec $fit $work/\$OTHER "\$@"
END
chmod +x own-store
mpirun_on $a:1,$b:1 -x OTHER=fewer "$work/own-store" -b 1 -o "$work/never" --steps 2 >log 2>&1
grep -qx 'ccld-fit: cannot train: rank 1 (host-b) has other data: hash [0-9a-f]* instead of hash [0-9a-f]*' log
ok $? 'a host with other data is named, with both hashes'
mpirun_on $a:1,$b:1 -x OTHER=nowhere "$work/own-store" -b 1 -o "$work/never" --steps 2 >log 2>&1
grep -q "^ccld-fit: rank 1 (host-b): cannot train: '$work/nowhere'" log
ok $? 'an error of one host is printed, with its name'
mpirun_on $a:1 $fit shards -b 1 -o "$work/never" --steps 2 : --host $b:1 $fit shards -b 1 -o "$work/never" --steps 3 >log 2>&1
grep -qx 'ccld-fit: cannot train: rank 1 (host-b) has other options: --steps 3 instead of --steps 2' log
ok $? 'so is one with other options'
mpirun_on $a:1 $fit shards -b 1 -o "$work/never" --steps 2 : --host $b:1 -x CCLD_CPU=generic $fit shards -b 1 -o "$work/never" --steps 2 >log 2>&1
grep -qx 'ccld-fit: cannot train: rank 1 (host-b) has other instruction sets: generic instead of avx[0-9]*' log || CCLD_CPU=avx2 "$build/tests/op/checker" --op fill 2>/dev/null | grep -q generic
ok $? 'or another processor'

# Long runs. `ranks` are the processes by rank.
long="$fit $work/shards -b 1 --steps 100000 --checkpoint-every 5 --keep 2"
start() { # RUN
    rm -rf "$1"
    ./on a mpirun -x PATH ${CCLD_WATCHDOG:+-x CCLD_WATCHDOG} --host $a:2,$b:1 $long -o "$work/$1" >log 2>&1 </dev/null &
    launcher=$!
    started "$1" OMPI_COMM_WORLD_RANK && [ ${#ranks[@]} = 3 ]
}
link_up() { # after mpirun has lost the connection
    kill -KILL $launcher $(ip netns pids $net-a) $(ip netns pids $net-b)
    wait $launcher
    ip -n $net-a link set va up
    ip -n $net-a neigh flush all
    ip -n $net-b neigh flush all
    until [ "$(ip -n $net-a -br link show va | grep -c ' UP ')" = 1 ]; do sleep 0.1; done
}
seconds() {
    echo $((SECONDS - begun))
}

start stopped && kill -USR1 $launcher && gone 20
ok $? 'SIGUSR1 to mpirun ends all ranks'
wait $launcher
[ $? = 0 ] && ! grep -q 'rank' log && resumes stopped
ok $? 'with a checkpoint, from which the run resumes'
for signal in USR1 HUP; do
    start stopped && kill -$signal "${ranks[1]}" && gone 20
    ok $? "SIG$signal to one rank ends all"
    wait $launcher
    [ $? = 0 ] && resumes stopped
    ok $? 'with a checkpoint, from which the run resumes'
done
for victim in 0 2; do
    start killed && begun=$(date +%s%N) && kill -KILL "${ranks[victim]}" && ended 4
    ok $? "SIGKILL to rank $victim ends all within seconds ($((($(date +%s%N) - begun) / 1000000)) ms)"
    wait $launcher
    [ $? != 0 ] && grep -q "rank $victim with PID .* on node .* exited on signal 9" log && resumes killed
    ok $? 'mpirun names it; the last checkpoint resumes'
done

export CCLD_WATCHDOG=3
start hung && kill -STOP "${ranks[2]}" && gone 10
ok $? 'a rank that hangs ends all after the time in CCLD_WATCHDOG'
wait $launcher
[ $? != 0 ] && grep -q '^ccld-fit: rank [01] (host-a): waited [0-9]* seconds for other ranks in an\? [a-z ]*: the run ends, the last checkpoint stays$' log && resumes hung
ok $? 'and those that waited say so; the last checkpoint resumes'
start cut && begun=$SECONDS && ip -n $net-a link set va down && ended 15
ok $? "a lost connection ends all ranks within 15 seconds ($(seconds))"
link_up
grep -q '^ccld-fit: rank 0 (host-a): waited [0-9]* seconds for other ranks' log && resumes cut
ok $? 'by the watchdog; the last checkpoint resumes'
unset CCLD_WATCHDOG
start cut && begun=$SECONDS && ip -n $net-a link set va down && kill -USR1 "${ranks[@]}" && ended 15
ok $? "with a stop signal, also without CCLD_WATCHDOG ($(seconds))"
link_up
grep -q '^ccld-fit: rank 0 (host-a): waited 1[0-9] seconds for other ranks' log && resumes cut
ok $? 'by the watchdog; the last checkpoint resumes'
export OMPI_MCA_oob_tcp_keepalive_time=2 OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=3
start cut && begun=$SECONDS && ip -n $net-a link set va down && gone 15
ok $? "mpirun, told to look often, ends a run with a lost connection ($(seconds))"

[ $failed = 0 ] || sed 's/^/# /' stderr
echo "1..$number"
exit $((failed > 0))
