#!/bin/bash
# tests/gpu-session on the emulator and without a GPU, and where tests/gpu-libraries looks. Prints TAP. The whole folder of
# `make gpu-pack`, in a bare chroot: tests/elsewhere/run gpu-pack.
# usage: [BUILD=build] tests/gpu-pack.sh
set -u
cd "$(dirname "$0")/.." || exit 2
export BUILD=${BUILD:-build} LC_ALL=C
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
log=$work/log
. tests/support/tap.sh
unset OUT EMULATED CCLD_CUDA_PLUGIN LD_LIBRARY_PATH

json() { # FILE EXPRESSION: of $r, what the file says
    perl -MJSON::PP -e 'local $/; open my $f, "<", $ARGV[0] or die; my $r = decode_json(<$f>); exit !eval $ARGV[1]' "$@"
}

EMULATED=1 PYTHON=false tests/gpu-session -o "$work/emulated" 30 steps torch >"$log" 2>&1
ok $? 'a session on the emulator'
json "$work/emulated/results.json" '@{$r->{runs}} == 3 && $r->{runs}[0]{status} eq "done" && $r->{runs}[2]{status} =~ /^skipped: .*torch/' 2>>"$log"
ok $? 'its results say what was done, and what is missing'
json "$work/emulated/results.json" '
    my %ms = map { $_->{class} => $_->{ms} } grep { $_->{table} eq "class" } @{$r->{rows}};
    my ($dw) = grep { $_->{op} eq "conv2d_backward" && $_->{part} eq "dw" } grep { $_->{table} eq "op" } @{$r->{rows}};
    $ms{"conv-dgrad"} > 0 && $ms{"conv-wgrad"} > 0 && $ms{"adamw-ema"} > 0 && $ms{sum} > $ms{"conv-dgrad"} && $dw->{phase} eq "backward"' 2>>"$log"
ok $? 'the time of a step is divided among ops, parts and classes'
grep -q '^class  *TFLOP  *GB  *modelled-ms  *measured-ms$' "$work/emulated/summary.txt" && grep -q '^adamw-ema  *-  *-  *-  *[0-9]' "$work/emulated/summary.txt"
ok $? 'the summary has a table of classes'

CUDA_VISIBLE_DEVICES='' tests/gpu-session -o "$work/none" 1 ops sanitizer >"$log" 2>&1
[ $? = 1 ] && grep -q '^no usable GPU: ' "$log" && json "$work/none/results.json" '$r->{unusable} && @{$r->{runs}} == 2 && !@{$r->{rows}}' 2>>"$log"
ok $? 'without a GPU, a session says so and goes on'
tests/gpu-session -o "$work/never" 1 nosuch >"$log" 2>&1
[ $? = 2 ] && grep -q "no such part: 'nosuch'" "$log" && [ ! -e "$work/never" ]
ok $? 'an unknown part is refused'

# A plugin that needs a library of PyPI's, which needs another.
packages=$work/site/nvidia
mkdir -p "$packages/cudnn/lib" "$packages/cu13/lib"
: >"$work/empty.c"
make_library() { # FILE NEEDED...
    local file=$1
    shift
    ${CC:-gcc} -shared -Wl,--no-as-needed -Wl,--unresolved-symbols=ignore-all -Wl,-soname,"${file##*/}" -o "$file" "$work/empty.c" "$@" >>"$log" 2>&1
}
make_library "$packages/cu13/lib/libccld-needed.so.1" && make_library "$packages/cudnn/lib/libcudnn-ccld.so.9" "$packages/cu13/lib/libccld-needed.so.1" &&
    make_library "$work/plugin.so" "$packages/cudnn/lib/libcudnn-ccld.so.9"
ok $? 'libraries for the following'
if python3 -c '' 2>/dev/null; then
    CCLD_CUDA_PLUGIN=$work/plugin.so PYTHONPATH=$work/site tests/gpu-libraries >"$work/folders" 2>"$log"
    ! grep -q 'libcudnn-ccld\|libccld-needed' "$log" && grep -q "$packages/cudnn/lib" "$work/folders" && grep -q "$packages/cu13/lib" "$work/folders"
    ok $? "libraries of PyPI's packages are found, and what they need"
else
    echo "ok $((number += 1)) - libraries of PyPI's packages # SKIP python3 is missing"
fi
CCLD_CUDA_PLUGIN=$work/plugin.so PYTHON=false tests/gpu-libraries >"$work/folders" 2>"$log"
[ $? = 1 ] && [ "$(grep -c '^gpu-libraries: libcudnn-ccld.so.9 is missing: the CUDA backend needs it$' "$log")" = 1 ]
ok $? 'a missing one is named in one line'

echo "1..$number"
[ $failed = 0 ]
