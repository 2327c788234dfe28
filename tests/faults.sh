#!/bin/bash
# One call of a program fails: a write, a sync, a rename, a mapping, an allocation, ... After each such fault the program must have ended by itself,
# with one line that says why unless its result is complete; nothing that was there before may be lost, and a rerun must end as an undisturbed run
# does and leave no temporary files. A first run counts the calls; then each of them, or a sample of many, fails in turn. Prints TAP.
# usage: [BUILD=build] [FAULTS=all] [KINDS='write open'] tests/faults.sh [encode|rerun|fit|resume|convert|grid|join]...
#   FAULTS=all: all calls where there are many, as of allocations, and further errors for each
set -u
. "$(dirname "$0")/support/apart.sh"
export CCLD_DEVICE=cpu

shim="$build/tests/faults/shim.so"
if nm "$build/ccld-encode" | grep -q __asan_init; then
    echo '1..0 # SKIP a program with sanitizers has its own malloc'
    exit 0
fi
faulty= # goes before the program that gets the fault
: >log
"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
"$build/tests/synth/shapes" -q -o images -n 6 --size 32 --pairs pairs.tsv >/dev/null || exit 2
cut -f 1 pairs.tsv >list
encode="ccld-encode -q --threads 2 -m model --size 64 --batch-size 2 --shard-size 4"
fit="ccld-fit -q --threads 2"
begin="$fit whole-encode/store --init-from model/diffusion.safetensors --seed 3 -b 2 --checkpoint-every 1 --log-every 1"

# For each subject: prepare sets up its files in the folder at; run is what gets the fault; again completes it; check compares with the folder of an
# undisturbed run, whole-SUBJECT. kept, if any, tests that what was there before still is.
encode_run() { $faulty $encode -o at/store <list; }
encode_check() { same_store at/store whole-encode/store; }
encode_kept() { [ ! -e at/store/00000.mdb ] || ccld-shards -q verify at/store; }

rerun_prepare() { head -n 3 list | $encode -o at/store; }
rerun_run() { encode_run; }
rerun_check() { encode_check; }
rerun_kept() { ccld-shards -q verify at/store && ccld-shards ls at/store | head -n 3 | cmp - <(ccld-shards ls whole-encode/store | head -n 3); }

fit_run() { $faulty $begin --steps 2 -o at/run; }
fit_again() { if [ -e at/run/latest ]; then $fit --resume at/run --steps 2; else fit_run; fi; }
fit_check() { same_checkpoint at/run whole-fit/run step-00000002; }

resume_prepare() { cp -a whole-fit/run at; }
resume_run() { $faulty $fit --resume at/run --steps 3; }
resume_check() { same_checkpoint at/run whole-resume/run step-00000003; }
resume_kept() { diff -r at/run/step-00000002 whole-fit/run/step-00000002; }

convert_prepare() { echo old >at/out.pt; }
convert_run() { $faulty ccld-weights convert model/cloob.safetensors --dtype f16 -o at/out.pt; }
convert_check() { cmp at/out.pt whole-convert/out.pt; }
convert_kept() { [ "$(cat at/out.pt)" = old ] || convert_check; }

grid_prepare() { echo old >at/out.png; }
grid_run() { $faulty ccld-grid -q $(cat list) -o at/out.png; }
grid_check() { cmp at/out.png whole-grid/out.png; }
grid_kept() { [ "$(cat at/out.png)" = old ] || grid_check; }

join_prepare() { head -n 3 list | $encode -o at/a && tail -n 3 list | $encode -o at/b; }
join_run() { $faulty ccld-shards -q join at/store at/a at/b; }
join_check() { same_store at/store whole-join/store; }

same_store() { # STORE WHOLE
    ccld-shards -q verify "$1" && cmp <(ccld-shards ls "$1") <(ccld-shards ls "$2") &&
        for index in 0 2 5; do cmp <(ccld-shards cat "$1" $index) <(ccld-shards cat "$2" $index) || return 1; done
}
same_checkpoint() { # RUN WHOLE STEP
    [ "$(readlink "$1/latest")" = "$3" ] &&
        for file in raw diffusion optimizer; do cmp "$1/$3/$file.safetensors" "$2/$3/$file.safetensors" || return 1; done
}
# Files with what differs between runs left out: lock files, the time and process in TensorBoard's files, of which each session makes one.
files() { (cd "$1" && find . ! -name '*-lock' | sed 's/tfevents.*/tfevents/' | sort -u); }
has() { declare -F "$1" >/dev/null; }
prepare() {
    rm -rf at
    mkdir at
    ! has "$1_prepare" || "$1_prepare"
}

# What the call fails with; the second number is for FAULTS=all.
declare -A errors=([write]="28 5" [sync]="5 28" [rename]="5 28" [mmap]="12" [malloc]="12" [open]="24 13" [truncate]="28 5" [read]="5 12" [close]="5" [thread]="11")

fault() { # SUBJECT KIND N ERRNO: sets why if something is wrong
    why=
    prepare "$1"
    rm -f calls
    (export faulty="timeout -s KILL 120 env FAULT=$2:$3:$4 FAULT_LOG=$work/calls LD_PRELOAD=$shim" && "$1_run") >out 2>said
    local status=$? complete=
    "$1_check" >log 2>&1 && complete=1
    if [ $status -ge 128 ]; then
        why="ends by a signal or hangs: status $status"
    elif [ $status = 0 ] && [ -z "$complete" ]; then
        why='succeeds without a complete result'
    elif [ $status != 0 ] && { [ "$(grep -vxFc -f "whole-$1/said" said)" != 1 ] || grep -qv '^ccld-[a-z]*: ' said; }; then
        why="fails with status $status and not with one line"
    elif has "$1_kept" && ! "$1_kept" >log 2>&1; then
        why='loses what was there'
    elif ! { if has "$1_again"; then "$1_again"; else "$1_run"; fi; } >log 2>&1; then
        why='cannot be run again'
    elif ! "$1_check" >log 2>&1; then
        why='a rerun gives another result'
    elif comm -23 <(files at) <(files "whole-$1") | grep . >log; then
        why='leaves files behind'
    fi
    [ -z "$why" ] || { echo "status $status" && cat said; } >>log
}

calls_to_fail() { # SUBJECT COUNT: all, or some of many. Training is slow.
    local most=8
    case $1 in fit | resume) most=3 ;; esac
    if [ "${FAULTS:-}" = all ] || [ "$2" -le $most ]; then
        seq "$2"
    else
        for i in $(seq $most); do echo $((1 + (i * 7919 + i * i * 31) % $2)); done | sort -nu
    fi
}

subjects=${*:-encode rerun fit resume convert grid join}
for subject in encode fit $subjects; do
    [ ! -e "whole-$subject" ] || continue
    prepare "$subject"
    "${subject}_run" >log 2>at/said || { cat log at/said && exit 2; }
    echo 'no line' >>at/said
    mv at "whole-$subject"
done
for subject in $subjects; do
    for kind in ${KINDS:-write sync rename mmap malloc open truncate read close thread}; do
        prepare "$subject"
        rm -f calls
        (export faulty="env FAULT=$kind:0:5 FAULT_LOG=$work/calls LD_PRELOAD=$shim" && "${subject}_run") >log 2>&1
        count=$(sed -n "s/^$kind //p" calls)
        bad=0
        for error in ${errors[$kind]}; do
            for n in $(calls_to_fail "$subject" "${count:-0}"); do
                fault "$subject" "$kind" "$n" "$error"
                [ -n "$why" ] || continue
                bad=$((bad + 1))
                ok 1 "$subject: when call $n of $kind fails (error $error), it $why"
            done
            [ "${FAULTS:-}" = all ] || break
        done
        [ $bad = 0 ] && ok 0 "$subject: each of ${count:-0} calls of $kind may fail"
    done
done

# What fails for good in the middle of a run ends it, but not without a checkpoint.
case " $subjects " in *' fit '*)
    "$build/tests/synth/shapes" -q -o many -n 60 --size 32 --pairs many.tsv >/dev/null || exit 2
    for program in autoencoder cloob; do
        if [ $program = cloob ]; then cp many.tsv input; else cut -f 1 many.tsv >input; fi
        for ranks in 1 2; do
            run=$program-$ranks
            timeout -s KILL 300 env FAULT=open:21:24 FAULT_PATHS=many/ LD_PRELOAD="$shim" ccld-fit-$program -q --threads 2 --devices $ranks \
                --init-from model/$program.safetensors $([ $program = cloob ] || echo --size 64) -b 2 --steps 1000 -o $run <input 2>log
            [ $? = 1 ] && [ "$(wc -l <log)" = 1 ] && grep -q \
                "^ccld-fit-$program: cannot continue training: cannot read '.*': Too many open files; a checkpoint of step [1-9][0-9]* has been written$" log &&
                step=$(readlink $run/latest) && ccld-fit-$program -q --resume $run --steps $((10#${step#step-} + 1)) 2>>log
            ok $? "ccld-fit-$program on $ranks ranks saves when it can no longer read"
        done
    done
    ;;
esac

echo "1..$number"
[ $failed = 0 ]
