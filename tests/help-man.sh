#!/bin/sh
# --help and man page of every program have the same options with the same arguments. Prints TAP.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT

set -- tools/ccld-*.c
echo "1..$(($# * 3 + $(ls man/*.[157] | wc -l)))"
. tests/support/tap.sh

for tool; do
    name=${tool##*/} name=${name%.c} page=man/$name.1
    # Lines `  -n, --count N   ...` become `-n, --count N`; the argument ends at two spaces.
    "$build/$name" --help >"$work/help" || : >"$work/help"
    sed -n 's/^ *\(\(-., \)\{0,1\}--[a-z]\)/\1/p' "$work/help" | sed 's/   *.*//' | sort >"$work/in-help"
    # `.It Fl n , Fl -count Ar N` becomes the same.
    sed -n 's/^\.It \(Fl [^-] , \)\{0,1\}Fl -/&/p' "$page" 2>/dev/null | sed 's/^\.It //
        s/Fl \([^ -]\) , /-\1, /; s/Fl -/--/; s/ Ar / /' | sort >"$work/in-man"
    report "$name: --help and man page list options" "$([ -s "$work/in-help" ] &&
        [ -s "$work/in-man" ] || echo "no options found")"
    report "$name: every option of --help is in $page" "$(comm -23 "$work/in-help" "$work/in-man")"
    report "$name: every option of $page is in --help" "$(comm -13 "$work/in-help" "$work/in-man")"
done
for page in man/*.[157]; do
    report "$page is well formed" "$(mandoc -T lint -W warning "$page" 2>&1)"
done
[ $failed = 0 ]
