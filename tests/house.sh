#!/bin/sh
# What the makefile refuses, what it installs, and whether the runner of tests/cli detects failures. Prints TAP.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
unset MAKEFLAGS MAKELEVEL MFLAGS

number=0 failed=0
check() { # NAME COMMAND...
    number=$((number + 1)) title=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        echo "ok $number - $title"
    else
        failed=$((failed + 1))
        echo "not ok $number - $title"
        sed 's/^/# /' "$work/said" "$work/output"
    fi
}

refuses() { # REASON MAKE-ARGUMENT...: make fails and prints the reason in one line
    reason=$1
    shift
    ! make BUILD="$build" "$@" >"$work/output" 2>&1 && grep -q "$reason" "$work/output" &&
        [ "$(grep -cv '^make' "$work/output")" -le 1 ]
}

: >"$work/output"
check 'CUDA=1 without nvcc is refused' refuses "'nosuch-nvcc' was not found" CUDA=1 NVCC=nosuch-nvcc
no_libraries() { PKG_CONFIG_LIBDIR=$work PKG_CONFIG_PATH=$work refuses 'libpng-dev.*make deps' all; }
check 'a missing library is reported with its Debian package' no_libraries
check 'check-gpu fails when there is nothing to check' refuses 'nothing to check' CUDA=0 check-gpu
check 'a world that nobody has made is refused' refuses "'nosuch' is neither shapes nor things" WORLD=nosuch bench-fidelity

install_all() {
    make BUILD="$build" install-built DESTDIR="$work/root" PREFIX=/usr >"$work/output" 2>&1 &&
        for tool in tools/ccld-*.c; do
            name=$(basename "$tool" .c)
            "$work/root/usr/bin/$name" --version && [ -f "$work/root/usr/share/man/man1/$name.1" ] ||
                return 1
        done && [ -f "$work/root/usr/share/man/man5/ccld-models.5" ] && [ -f "$work/root/usr/share/man/man7/ccld-ranks.7" ] &&
        for part in autoencoder cloob diffusion; do
            cmp models/small/$part.safetensors "$work/root/usr/share/ccld/models/small/$part.safetensors" || return 1
        done &&
        { [ ! -f "$build/libccld-cuda.so" ] || [ -f "$work/root/usr/lib/ccld/libccld-cuda.so" ]; } &&
        (unset CCLD_MODEL && cd "$work" && root/usr/bin/ccld-plms -q --steps 1 "a red heart" >image.ppm)
}
check 'make install installs programs, man pages and the model, which the programs find' install_all

# Golden files: a missing one is counted; a folder without any fails.
parity=$build/tests/golden/noise
golden() { # STATUS REASON FOLDER
    tests/golden/run "$3" "$parity" "$build/tests/golden/tokens" >"$work/output" 2>&1
    [ $? = "$1" ] && grep -q "$2" "$work/output"
}
mkdir "$work/empty" "$work/part"
cp tests/golden/data/noise.safetensors "$work/part"
check 'check-golden counts missing golden files' golden 0 '0 failed, 1 skipped' "$work/part"
check 'and lists what it checked' grep -q '^ok .*noise.safetensors: seed0' "$work/output"
check 'it fails if it checked nothing' golden 1 'nothing was checked' "$work/empty"
check 'or if the folder does not exist' golden 1 "no such folder: '.*/nosuch'" "$work/nosuch"
head -c 20000 tests/golden/data/noise.safetensors >"$work/part/noise.safetensors"
check 'or if a file is damaged' golden 1 'failed: noise.safetensors' "$work/part"

# Cases that must pass, be skipped or fail, one per way to fail.
cases=$work/tree/tests/cli
mkdir -p "$cases"
cp tests/cli/run "$cases"
write() { # NAME SCRIPT OUT ERR STATUS
    echo "$2" >"$cases/$1.sh"
    [ -z "$3" ] || echo "$3" >"$cases/$1.out"
    [ -z "$4" ] || echo "$4" >"$cases/$1.err"
    [ -z "$5" ] || echo "$5" >"$cases/$1.status"
}
write good 'echo out; echo a warning about 7 files >&2; exit 3' out 'a warning about * files' 3
write quiet ':' '' '' ''
write skipped 'echo no reason; exit 77' '' '' ''
write status 'exit 1' '' '' ''
write stdout 'echo out' '' '' ''
write no-stdout ':' out '' ''
write stderr 'echo told >&2' '' '' ''
write no-stderr ':' '' 'told' ''
write glob 'echo "cannot read: x" >&2' '' 'cannot write: *' ''
write dots 'echo "axb" >&2' '' 'a.b' ''
write ends 'echo "a warning about 7 files!" >&2' '' 'a warning about * files' ''
write command-fails 'false; echo out' out '' ''
write unset-variable 'echo "$no_such_variable"' '' '' 2
write leftovers 'test -z "$(ls)" && touch file && test ! -e ../quiet/file' 'no' '' ''

runner() {
    BUILD="$(cd "$build" && pwd)" "$cases/run" "$@" >"$work/output" 2>&1
}
all_seen() {
    ! runner || return 1
    for name in good quiet skipped; do grep -q "^ok .* - $name" "$work/output" || return 1; done
    [ "$(grep -c '^not ok' "$work/output")" = 11 ]
}
check 'the runner of tests/cli tells good cases from bad ones' all_seen
some_seen() { runner good quiet skipped && [ "$(grep -c '^ok' "$work/output")" = 3 ]; }
check 'and runs only the named ones' some_seen
writes() {
    runner --write stdout no-stderr good && runner stdout no-stderr good && grep -qx 'a warning about \* files' "$cases/good.err"
}
check 'and with --write takes what they print for what is expected' writes
none_such() { ! runner nosuch && grep -q '^not ok' "$work/output"; }
check 'a case that does not exist fails' none_such

scripts_run() {
    find .ci pipelines tests -type f ! -perm -u+x -exec sh -c 'for file; do
        [ "$(head -c 2 "$file" | tr -d "\0")" != "#!" ] || echo "$file is not executable"; done' - {} + >"$work/output"
    [ ! -s "$work/output" ]
}
check 'all scripts are executable' scripts_run

# Kernels are templates of structs, so the linker would take one file's kernel for the other's.
structs_differ() {
    grep -hoE '^(template <[^>]*> )?struct [a-z_0-9]+( : .*)? *\{$' kernels/cuda/*.cu |
        grep -oE 'struct [a-z_0-9]+' | sort | uniq -d >"$work/output"
    [ ! -s "$work/output" ]
}
check 'no two files of the CUDA backend define structs of the same name' structs_differ

echo "1..$number"
[ $failed = 0 ]
