#!/bin/sh
# No kernel of the CUDA backend may spill registers, by what ptxas said when it was built. Prints TAP.
# usage: [BUILD=build] tests/kernel-spills.sh
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
. tests/support/tap.sh

# Lines "FILE GPU KERNEL: N bytes of spills".
spills() { # REPORT...
    awk '
    /Compiling entry function/ { split($0, quoted, "\047"); kernel = quoted[2]; gpu = quoted[4]; next }
    /bytes spill stores/ {
        match($0, /[0-9]+ bytes spill stores/)
        bytes = substr($0, RSTART) + 0
        if (bytes)
            print FILENAME, gpu, kernel ": " bytes " bytes of spills"
    }' "$@"
}

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
printf "ptxas info    : Compiling entry function '_Z3oddv' for 'sm_90'\n    8 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads\n" >"$work/odd.ptxas"
[ "$(spills "$work/odd.ptxas")" = "$work/odd.ptxas sm_90 _Z3oddv: 12 bytes of spills" ]
ok $? 'a spill is found'
set -- "$build"/kernels/cuda/*.ptxas
if [ ! -e "$1" ]; then
    echo "ok $((number += 1)) - spills of kernels # SKIP this build has no CUDA backend"
else
    [ "$(cat "$@" | grep -c 'Compiling entry function')" -gt 100 ]
    ok $? 'ptxas reported on the kernels'
    report 'no kernel spills registers' "$(spills "$@")"
fi
echo "1..$number"
[ $failed = 0 ]
