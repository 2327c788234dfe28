#!/bin/bash
# The trainers with several ranks on the CPU: the same bytes from 1, 2 and 4 ranks, runs resumed on other
# numbers of ranks, and ranks that are stopped, killed, hung or fail. Prints TAP.
# usage: [BUILD=build] [KILLS=8] [SEED=n] tests/ranks.sh
set -u
. "$(dirname "$0")/support/apart.sh"
draw
kills=${KILLS:-8}
export CCLD_DEVICE=cpu
. "$top/tests/support/runs.sh"

exec 2>stderr # where the shell reports processes that are killed
"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
"$build/tests/synth/shapes" -q -o images -n 40 --size 32 --pairs pairs.tsv || exit 2
cut -f 1 pairs.tsv >list
ccld-encode -q -m model --size 64 -o shards <list 2>log || exit 2
head -c 100 "$(sed -n 11p list)" >cut && cp cut "$(sed -n 11p list)" # unreadable from now on

fit="ccld-fit -q --lr 1e-3 --init-from model/diffusion.safetensors --log-every 1 --holdout 4 --holdout-every 3 --seed 7"
fit_autoencoder="ccld-fit-autoencoder -q --size 32 --base-channels 32 --channel-multipliers 1,2 --blocks 1
    --lr 1e-3 --warmup 2 --clip-grad 1 --flip --holdout 5 --holdout-every 3 --demo-every 3 --demo-pictures 3
    --disc-start 3 --log-every 1 --seed 7"
fit_cloob="ccld-fit-cloob -q --image-size 16 --patch-size 8 --width 64 --layers 1 --text-width 64 --text-layers 1
    --vocabulary 600 --embed 32 --lr 3e-4 --warmup 4 --lr-schedule constant --size 24 --flip --holdout 7
    --holdout-every 3 --log-every 1 --seed 3"

# The log without times and in 12 digits: some means are those of ranks' own sums.
logged() { # RUN
    sed 's/"\(time\|images-per-second\|data-wait\)":[^,}]*//g; s/\(\.[0-9]\{10\}\)[0-9]*/\1/g' "$1/metrics.jsonl"
}
# Processes of this test's trainers.
left() {
    pgrep -f "^ccld-fit.* -o $work/" | grep -vx "$$"
}
gone() { # SECONDS
    local i
    for i in $(seq $(($1 * 20))); do
        [ -z "$(left)" ] && return
        sleep 0.05
    done
    left | xargs ps -o pid,stat,args -p >>log
    return 1
}

# Steps 1 to 6 on N ranks; 16 images are an effective batch of 4 and a half epochs.
for program in fit fit_autoencoder fit_cloob; do
    case $program in
    fit) input=/dev/null data=shards last=diffusion ;;
    fit_autoencoder) input=list data= last=autoencoder ;;
    fit_cloob) input=pairs.tsv data= last=cloob ;;
    esac
    begin="${!program} $data --steps 6"
    for n in 1 2 4; do
        $begin -b 1 --accumulate $((4 / n)) --devices $n --threads 2 -o $program-$n <$input 2>log
        ok $? "$program on $n ranks"
        [ $n = 1 ] && continue
        same $program-1 $program-$n >log 2>&1
        ok $? 'ends in the same weights and optimizer, bit for bit'
        logged $program-1 >a && logged $program-$n | diff a - >log
        ok $? 'with the same metrics along the way'
    done
    [ "$program" != fit_autoencoder ] || cmp fit_autoencoder-{1,4}/demo/00000006.png >log 2>&1
    ok $? 'and demo images'
    name=ccld-${program//_/-}
    $begin -b 1 --devices 4 --steps 2 -o $program-chain <$input 2>log &&
        $name --resume $program-chain --devices 2 --steps 4 2>>log &&
        $name -q --resume $program-chain --steps 6 2>>log && same $program-1 $program-chain >>log 2>&1
    ok $? 'so does a run of 4 ranks, resumed on 2 and then on 1'
    grep -q -- '--devices 2 instead of 4, --accumulate 2 instead of 1' log
    ok $? 'and it says how the effective batch is kept'
done

# Muon shares whole kernels among ranks, not slices.
for n in 1 2 4; do
    $fit shards --steps 6 --optimizer muon -b 1 --accumulate $((4 / n)) --devices $n -o muon-$n 2>log &&
        { [ $n = 1 ] || same muon-1 muon-$n >>log 2>&1; }
    ok $? "with Muon, $n ranks end in the same bytes"
done
same fit-1 muon-1 >log 2>&1
[ $? = 1 ]
ok $? 'which are not those of AdamW'
$fit shards -b 1 --devices 4 --steps 2 --optimizer muon -o muon-chain 2>log &&
    ccld-fit --resume muon-chain --devices 2 --steps 4 2>>log &&
    ccld-fit -q --resume muon-chain --steps 6 2>>log && same muon-1 muon-chain >>log 2>&1
ok $? 'also when resumed on 2 and then on 1'
ccld-fit --resume muon-chain --steps 7 --optimizer adamw 2>log
[ $? = 2 ] && grep -q 'ccld-fit: --optimizer adamw differs from the checkpoint: --resume cannot change it' log
ok $? 'a run keeps its optimizer'

log=log2
[ "$(find / -xdev -maxdepth 2 -path '/dev/shm/*' -user "$(id -u)" -newer cut 2>/dev/null | wc -l)" = 0 ]
ok $? 'nothing is left in /dev/shm'
log=log

$fit_autoencoder -b 4 --devices 3 --steps 6 -o fit_autoencoder-3 <list 2>log &&
    grep -q "^ccld-fit-autoencoder: \(rank [12]: \)\?cannot read '.*'.*; skipping it" log
ok $? 'a file that a rank cannot read is reported by it, and replaced'

ccld-fit -q --resume fit-2 --devices 3 --steps 9 2>log
[ $? = 1 ] && grep -q '3 ranks with --batch-size 1 cannot keep its effective batch of 4: --devices may be 1, 2, 4$' log && [ "$(wc -l <log)" = 1 ]
ok $? 'a number of ranks that does not divide the effective batch is refused with those that do'
ccld-fit -q --resume fit-2 --devices 3 --accumulate 1 --steps 7 2>log
ok $? 'unless another effective batch is asked for'
$fit no/such/store -b 1 --devices 4 --steps 2 -o never 2>log
[ $? = 1 ] && [ "$(wc -l <log)" = 1 ] && grep -q "^ccld-fit: .*no/such/store" log
ok $? 'an error of all ranks is printed once'
$fit shards -b 4 --devices 2 --lr 1e3 --max-bad-steps 2 --steps 99 --warmup 0 -o bad 2>log
[ $? = 1 ] && [ "$(grep -c 'training failed: 2 non-finite steps in a row' log)" = 1 ] && ! grep -q 'rank' log
ok $? 'a run that diverges ends with one message'
[ "$(grep -o '"paths":\[[^]]*\]' bad/metrics.jsonl | head -n 1 | tr ',' '\n' | wc -l)" = 8 ]
ok $? 'after the samples of all ranks have been named'

# Long runs, each of a name of its own.
long="$fit $work/shards -b 1 --steps 100000 --checkpoint-every 5 --keep 2"
start() { # RUN RANKS
    rm -rf "$1"
    $long --devices "$2" -o "$work/$1" 2>log &
    parent=$!
    until [ -e "$1/latest" ]; do
        kill -0 $parent 2>/dev/null || return 1
        sleep 0.02
    done
    ranks=($(pgrep -P $parent))
    [ ${#ranks[@]} = "$2" ]
}

for signal in KILL ABRT; do
    start killed 3 && victim=${ranks[1]} && kill -$signal "$victim" && gone 2
    ok $? "within two seconds of SIG$signal to a rank, all have ended"
    wait $parent
    [ $? = 1 ] && grep -qx "ccld-fit: rank [0-2] (process $victim) was killed by SIG$signal" log && ! grep -q 'rank [0-9]*:' log
    ok $? 'and the rank is named'
    resumes killed
    ok $? 'the last checkpoint resumes'
done
start orphaned 3 && kill -KILL $parent && gone 2
ok $? 'ranks end with their parent'
wait $parent 2>/dev/null
resumes orphaned
ok $? 'and the last checkpoint resumes'

for signal in TERM INT USR1; do
    start stopped 2 && kill -$signal $parent && gone 20
    ok $? "SIG$signal ends all ranks"
    wait $parent
    [ $? = 0 ] && resumes stopped
    ok $? 'with a checkpoint, from which the run resumes'
done
start twice 2 && kill -STOP "${ranks[1]}" && kill -TERM $parent && sleep 0.3 && kill -TERM $parent && gone 2
ok $? 'a second signal ends ranks that do not answer'
wait $parent
[ $? = 143 ] && resumes twice
ok $? 'with the status of the signal; the last checkpoint resumes'
start hung 2 && kill -STOP "${ranks[1]}" && kill -TERM $parent && gone 20
ok $? 'so does one, after a while'
wait $parent
[ $? = 1 ] && grep -q "rank [01] (process ${ranks[1]}) has been stopped" log && resumes hung
ok $? 'naming the rank; the last checkpoint resumes'

export CCLD_WATCHDOG=2
start hung 3 && kill -STOP "${ranks[2]}" && gone 8
ok $? 'a rank that hangs ends all after the time in CCLD_WATCHDOG, without a stop signal'
wait $parent
[ $? = 1 ] && [ "$(grep -c 'rank' log)" = 1 ] && grep -q "rank [012] (process ${ranks[2]}) has been stopped for [2-5] seconds" log && resumes hung
ok $? 'naming the rank; the last checkpoint resumes'
start suspended 2 && kill -STOP $parent "${ranks[@]}" && sleep 6 && kill -CONT $parent "${ranks[@]}" && sleep 3 &&
    kill -USR1 $parent && gone 20
ok $? 'a run that is suspended as a whole continues'
wait $parent
[ $? = 0 ] && ! grep -q 'rank' log && resumes suspended
ok $? 'and ends with a checkpoint'
CCLD_WATCHDOG=soon $long --devices 2 -o "$work/never" 2>log
[ $? = 1 ] && [ "$(cat log)" = "ccld-fit: CCLD_WATCHDOG: 'soon' is not a number of seconds" ]
ok $? 'CCLD_WATCHDOG must be a number'
unset CCLD_WATCHDOG

# Ranks and parents killed at random moments, and resumed on other numbers of ranks.
start random 4 && kill -KILL $parent && gone 2
ok $? 'a run for random kills starts'
sound=0 step=0
for kill in $(seq "$kills"); do
    ccld-fit -q --resume random --devices $((1 << RANDOM % 3)) -o "$work/random" 2>log &
    parent=$!
    sleep "0.$((RANDOM % 6 + 1))$((RANDOM % 10))"
    processes=($parent $(pgrep -P $parent))
    kill -KILL "${processes[RANDOM % ${#processes[@]}]}" 2>/dev/null
    gone 2 || sound=1
    wait $parent 2>/dev/null
    for file in diffusion raw; do
        ccld-weights ls random/latest/$file.safetensors >log2 2>&1 || sound=1
    done
    before=$step step=$((10#$(readlink random/latest | tr -dc 0-9)))
    [ $step -ge $before ] || sound=1
    [ $sound = 0 ] || break
done
ok $sound "after each of $kills kills no process is left, and the last checkpoint is valid (step $step)"
last=$((step + 3))
ccld-fit -q --resume random --devices 2 --steps $last -o "$work/random" 2>log &&
    $fit shards -b 1 --accumulate 2 --devices 2 --steps $last -o unbroken 2>>log && same unbroken random >>log 2>&1
ok $? "whose run ends as if nothing had happened, bit for bit (step $last)"

[ $failed = 0 ] || sed 's/^/# /' stderr
echo "1..$number"
exit $((failed > 0))
