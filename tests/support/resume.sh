# Sourced by tests of runs that are stopped and resumed, after tap.sh. They set `fit`, a command; `begin`, one that begins a run; `steps`,
# its number of steps; `trained`, the file of weights without its ending; `list`, which is standard input of a new run.
last=step-$(printf %08d "$steps")
begins() { $begin "$@" <"$list"; }
same() { # RUN [OTHER]
    local other=${2:-whole} at=${2:+latest}
    for file in raw "$trained" optimizer; do
        cmp "$other/${at:-$last}/$file.safetensors" "$1/${at:-$last}/$file.safetensors" || return 1
    done
}
# Makes two steps more of a run that was stopped or killed somewhere, and `ends` of another at once: they must be the same.
resumes() { # RUN
    local at=$(readlink "$1/latest")
    ends=$((10#${at#step-} + 2))
    rm -rf straight
    begins --steps $ends -o straight 2>log && $fit --resume "$1" --steps $ends 2>>log </dev/null && same "$1" straight >>log 2>&1
}
# The log without times.
logged() { # RUN
    sed 's/"\(time\|images-per-second\|data-wait\|unreadable\)":[^,}]*,\{0,1\}//g' "$1/metrics.jsonl"
}

# Stops a run without end as soon as it has logged a step.
stops_at() { # SIGNAL
    rm -rf signalled
    $begin --steps 1000000 -o signalled <"$list" 2>log &
    local fitting=$! status
    until [ -s signalled/metrics.jsonl ] && grep -q '"loss":' signalled/metrics.jsonl; do
        kill -0 $fitting 2>/dev/null || break
        sleep 0.02
    done
    kill -"$1" $fitting
    wait $fitting
    status=$?
    [ $status = 0 ] && [ -e signalled/latest/state.json ]
    ok $? "SIG$1 leaves a checkpoint ($(readlink signalled/latest)), status $status"
    resumes signalled
    ok $? 'from which the run resumes to the same weights'
}

# Kills a run at random moments, mostly while it writes checkpoints, and looks at what is there.
killed_often() { # TIMES
    local begun took died=0 sound=0 micro fitting
    begins --checkpoint-every 1 --keep 2 --steps 1 -o killed 2>log
    ok $? 'a run with a checkpoint at every step starts'
    begun=$(date +%s%N)
    $fit --resume killed --steps 2 2>log </dev/null
    took=$((($(date +%s%N) - begun) / 1000)) # microseconds to start and take a step
    while [ "$died" -lt "$1" ] && [ $sound = 0 ]; do
        $fit --resume killed --steps 1000000 2>log </dev/null &
        fitting=$!
        micro=$((took / 2 + 2 * took * (RANDOM * 32768 + RANDOM) / 1073741824))
        sleep "$((micro / 1000000)).$(printf %06d $((micro % 1000000)))"
        kill -KILL $fitting 2>/dev/null
        wait $fitting 2>/dev/null
        [ $? = 137 ] && died=$((died + 1)) || sound=1
        for file in "$trained" raw optimizer; do
            [ $file = optimizer ] || ccld-weights ls killed/latest/$file.safetensors >log 2>&1 || sound=1
            [ -s killed/latest/$file.safetensors ] || sound=1
        done
    done
    ok $sound "after each of $died kills there is a valid checkpoint, the last one $(readlink killed/latest)"
    resumes killed
    ok $? 'the run resumes to the same weights'
    [ "$(ls -d killed/step-* | wc -l)" = 2 ] &&
        [ -z "$(ls -A killed | grep -v '^\(step-\|latest$\|metrics\|events\|demo\|images\.list$\)')" ]
    ok $? 'two checkpoints are kept, and incomplete ones are gone'
    [ "$(grep -o '"step":[0-9]*,.*"loss":' killed/metrics.jsonl | sed 's/,.*//' | sort | uniq -d | wc -l)" = 0 ] &&
        [ "$(grep -c '"loss":' killed/metrics.jsonl)" = $ends ]
    ok $? 'and every step is logged exactly once'
}
