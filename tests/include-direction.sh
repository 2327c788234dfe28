#!/bin/sh
# Dependencies point one way:
#   tools -> common/{nets,diffusion,prep} -> {kernels, formats} -> common/base
# Every #include "..." of ours is held against that picture; TAP.
# usage: tests/include-direction.sh [ROOT]
set -u
self=$(cd "$(dirname "$0")" && pwd)/${0##*/}
cd "${1:-$(dirname "$0")/..}" || exit 2

number=0 failed=0
report() { # NAME OFFENDERS
    number=$((number + 1))
    if [ -z "$2" ]; then
        echo "ok $number - $1"
    else
        failed=$((failed + 1))
        echo "not ok $number - $1"
        echo "$2" | sed 's/^/# /'
    fi
}

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

# A check that looks at nothing cannot fail: every layer must have been seen.
for layer in tools/ common/nets/ common/diffusion/ kernels/ formats/ common/base/; do
    from_files "$layer" >/dev/null || report "includes of $layer were found" "none"
done

report 'includes are written from the root' "$(echo "$ours" | while read -r file included; do
    [ -f "$included" ] || echo "$file: \"$included\""
done)"
only 'common/base includes nothing of ours' 'common/base/' 'common/base/'
only 'kernels include kernels and base' 'kernels/' 'kernels/|common/base/|tests/cuda-host/cuda.h'
report 'only cuda.cuh includes the emulator of CUDA' "$(from_files 'kernels/' |
    grep ' tests/' | grep -v '^kernels/cuda/cuda.cuh ')"
report 'and the headers of its runtime' "$(sources | grep '^kernels/' |
    grep -v '^kernels/cuda/cuda.cuh$' | xargs grep -nE '#[[:space:]]*include[[:space:]]*<cuda_')"
only 'kernels above the backends do not look into them' 'kernels/[^/ ]* ' \
    'kernels/[^/]*$|common/base/'
only 'kernels/ref knows no other backend' 'kernels/ref/' 'kernels/[^/]*$|kernels/ref/|common/base/'
only 'formats include formats and base' 'formats/' 'formats/|common/base/'
only 'common/nets include kernels, formats and base' 'common/nets/' \
    'common/nets/|kernels/[^/]*$|formats/|common/base/'
only 'common/diffusion includes kernels, formats and base' 'common/diffusion/' \
    'common/diffusion/|kernels/[^/]*$|formats/|common/base/'
only 'common/prep includes kernels, formats and base' 'common/prep[^/ ]* ' \
    'common/prep|kernels/[^/]*$|formats/|common/base/'
only 'common/train builds on networks, diffusion and the preparation of pictures' 'common/train/' \
    'common/(train|nets|diffusion|base)/|common/(prep|path_source)\.h|kernels/[^/]*$|formats/'
only 'what joins them in common stays above the backends' 'common/[^/ ]*\.[ch] ' \
    'common/|kernels/[^/]*$|formats/'
only 'tools do not look into backends or tests' 'tools/' 'common/|kernels/[^/]*$|formats/|tools/'
report 'only kernels know BLAS, oneDNN and CUDA' "$(sources | grep -v '^kernels/' |
    xargs grep -nE '#[[:space:]]*include[[:space:]]*<([a-z]*cblas|dnnl|oneapi|cuda|cublas|cudnn)' |
    grep -v '^tests/bench/')"
report 'no include goes up or out' "$(echo "$ours" | grep -E ' (\.|/)')"

# The same on a tree with one include in the wrong direction, which must be found.
if [ $# = 0 ]; then
    wrong=$(mktemp -d) || exit 2
    trap 'rm -rf "$wrong"' EXIT
    cp -R common kernels formats tools "$wrong" && mkdir "$wrong/tests"
    echo '#include "kernels/tensor.h"' >>"$wrong/formats/weights.h"
    report 'a wrong include is found' "$("$self" "$wrong" |
        grep -q '^not ok .* formats include formats and base' || echo "it was not")"
fi

echo "1..$number"
[ $failed = 0 ]
