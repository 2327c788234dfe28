# Sourced by tests of training runs, after tap.sh.
same() { # RUN RUN: their last checkpoints have the same tensors
    local file
    for file in "$1"/latest/*.safetensors; do
        cmp "$file" "$2/latest/${file##*/}" || return 1
    done
}
resume_with= # further options
resumes() { # RUN: makes one more step
    ccld-fit -q --resume "$1" --steps $(($(sed -n 's/^\t"step":\t\([0-9]*\),$/\1/p' "$1/latest/state.json") + 1)) $resume_with 2>>log
}

# Of tests whose `launcher` starts ranks, which the function `left` lists.
gone() { # SECONDS: until then all have ended
    local i
    for i in $(seq $(($1 * 20))); do
        [ -z "$(left)" ] && ! kill -0 "$launcher" 2>/dev/null && return
        sleep 0.05
    done
    ps -o pid,stat,args -p "$launcher" $(left) >>log
    kill -KILL "$launcher" $(left)
    return 1
}
started() { # RUN VARIABLE: waits for the first checkpoint, then sets `ranks`, processes by the rank in their VARIABLE
    until [ -e "$1/latest" ]; do
        kill -0 "$launcher" 2>/dev/null || return 1
        sleep 0.02
    done
    ranks=()
    local process
    for process in $(pgrep -f "^[^ ]*ccld-fit.* -o $work/$1\$"); do
        ranks[$(tr '\0' '\n' <"/proc/$process/environ" | sed -n "s/^$2=//p")]=$process
    done
}
