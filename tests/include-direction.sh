#!/bin/sh
# Includes point one way: every #include "..." stays in its room or goes to a lower floor.
# Checks the tree in ROOT. Prints TAP.
# usage: tests/include-direction.sh [ROOT]
set -u
self=$(cd "$(dirname "$0")" && pwd)/${0##*/}
tap=$(dirname "$self")/support/tap.sh
cd "${1:-$(dirname "$0")/..}" || exit 2

# The rooms (folders) and their floors. A room may include itself and rooms on lower floors. The backends
# in kernels/ have their own rules below.
rooms='
tools               12
common/fit          11
common/score        10
common/run           9
common/data          8
common/train         7
common/train/mpi     6
common/diffusion     6
common/encode        6
common/stores        6
common/nets          5
common/images        5
common/program       5
formats/shards       4
formats/archives     4
formats/weights      3
formats/images       3
formats/text         2
formats              2
kernels              2
common/base          1
'

. "$tap"

sources() {
    find common kernels formats tools tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cc' \
        -o -name '*.def' | sort
}

# "FILE INCLUDED" for every quoted include.
ours=$(sources | xargs grep -H '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' |
    sed 's/^\([^:]*\):[^"]*"\([^"]*\)".*/\1 \2/')

from_files() { # FILE-REGEX: includes of those files
    echo "$ours" | grep -E "^($1)"
}

only() { # NAME FILE-REGEX ALLOWED-REGEX
    report "$1" "$(from_files "$2" | grep -Ev "^[^ ]+ ($3)")"
}

# upward ROOM: its includes of rooms that are not on a lower floor.
upward() {
    from_files "$1/[^/ ]* " | awk -v from="$1" -v rooms="$rooms" '
        BEGIN { n = split(rooms, word); for (i = 1; i < n; i += 2) floor[word[i]] = word[i + 1] }
        { to = $2; sub("/[^/]*$", "", to) }
        to != from && !(to in floor && floor[to] < floor[from]) { print }'
}

report 'includes are written from the root' "$(echo "$ours" | while read -r file included; do
    [ -f "$included" ] || echo "$file: \"$included\""
done)"
report 'every folder of tools, common and formats has a floor' "$(sources |
    grep -E '^(tools|common|formats)/' | sed 's|/[^/]*$||' | sort -u | while read -r room; do
    echo "$rooms" | grep -q "^$room " || echo "$room"
done)"
for room in $(echo "$rooms" | awk 'NF { print $1 }'); do
    # A check that looks at nothing cannot fail.
    if [ -z "$(from_files "$room/[^/ ]* ")" ]; then
        report "$room has includes" "no includes found"
    else
        report "$room includes lower floors" "$(upward "$room")"
    fi
done
only 'formats include formats and base' 'formats/' 'formats/|common/base/'
only 'kernels include kernels and base' 'kernels/' 'kernels/|common/base/'
report "only cuda.cuh includes the headers of CUDA's runtime" "$(sources | grep '^kernels/' |
    grep -v '^kernels/cuda/cuda.cuh$' | xargs grep -nE '#[[:space:]]*include[[:space:]]*<cuda_')"
only 'kernels/ref includes no other backend' 'kernels/ref/' 'kernels/[^/]*$|kernels/ref/|common/base/'
report 'only kernels include BLAS, oneDNN and CUDA' "$(sources | grep -v '^kernels/' |
    xargs grep -nE '#[[:space:]]*include[[:space:]]*<([a-z]*cblas|dnnl|oneapi|cuda|cublas|cudnn)' |
    grep -v '^tests/bench/')"
report 'no include goes up or out' "$(echo "$ours" | grep -E ' (\.|/)')"

# Wrong includes in a copy of the tree must all be found.
finds() { # FILE LINE REPORT
    cp -R common kernels formats tools "$wrong" && mkdir -p "$wrong/tests" "$wrong/${1%/*}"
    echo "$2" >>"$wrong/$1"
    report "found: $2 in $1" "$("$self" "$wrong" | grep -q "^not ok .* - $3\$" || echo "not found")"
    rm -rf "${wrong:?}"/*
}
if [ $# = 0 ]; then
    wrong=$(mktemp -d) || exit 2
    trap 'rm -rf "$wrong"' EXIT
    finds formats/weights/weights.h '#include "kernels/tensor.h"' 'formats include formats and base'
    finds common/nets/unet.h '#include "common/diffusion/guidance.h"' 'common/nets includes lower floors'
    finds common/diffusion/guidance.h '#include "common/encode/networks.h"' \
        'common/diffusion includes lower floors'
    finds formats/text/utf8.h '#include "formats/images/image.h"' 'formats/text includes lower floors'
    finds common/run/metrics.h '#include "common/fit/loop.h"' 'common/run includes lower floors'
    finds kernels/cuda/cuda.cuh '#include "tests/cuda-host/runtime.h"' 'kernels include kernels and base'
    finds kernels/cuda/add.cu '#include <cuda_runtime.h>' "only cuda.cuh includes the headers of CUDA's runtime"
    finds kernels/ops.h '#include "kernels/cpu/isa.h"' 'kernels includes lower floors'
    finds common/attic/junk.h '#include "common/base/error.h"' \
        'every folder of tools, common and formats has a floor'
fi

echo "1..$number"
[ $failed = 0 ]
