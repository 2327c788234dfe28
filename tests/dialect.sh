#!/bin/sh
# The parts of the house style that a program can check: what clang-format and clang-tidy do not see.
# TAP. See CONTRIBUTING.md for the style.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}

. tests/support/tap.sh

sources=$(find common kernels formats tools tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cc')
programs=$(find common kernels formats tools -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh')
prose="README.md CONTRIBUTING.md CHANGELOG.md LICENSES.md Makefile $(find man pipelines models tests/bench -name '*.[15]' -o -name '*.mk' -o -name '*.md')"

# found PATTERN FILE...
found() {
    pattern=$1
    shift
    grep -nE "$pattern" "$@"
}

# A check that looks at nothing cannot fail.
self_test() {
    printf '%s\n' 'printf("%lld", (long long)x);' '(void)unused;' '{"steps", 0, OPTION_INT, &steps}' 'int rc = f();' \
        '/* TODO: later */' 'it is no U-Net' >"$1"
    report 'each pattern below finds what it looks for' "$(for p in "$long_long" "$void" "$row" "$status" "$todo" "$words"; do
        grep -qiE "$p" "$1" || echo "$p"
    done)"
}

long_long='\((unsigned )?long long\)'
void='^ *\(void\)[a-z_]+;'
row='\{"[a-z-]+", .*OPTION_'
status='int (rc|ret|res|result|failed) = '
todo='\b(TODO|FIXME|HACK|XXX)\b'
words='\b(it|that|this) is no [a-km-z]|\bso many\b|\banew\b|by heart|\bgo(es|ing)? on with\b|\bpictures? (is|are|was|that)\b'

temporary=$(mktemp) || exit 2
trap 'rm -f "$temporary"' EXIT
self_test "$temporary"
report 'int64_t is printed with PRId64, not as long long' "$(found "$long_long" $(echo "$sources" | grep '\.[ch]$' | grep -v '^tests/cuda-host/'))"
report 'unused parameters are not cast to void' "$(found "$void" $sources)"
report 'rows of option tables have designated initializers' "$(found "$row" $sources)"
report 'the result of a function that can fail is called status' "$(found "$status" $programs)"
report 'nothing is left to do later' "$(found "$todo" $sources)"
report 'messages, comments and pages avoid expressions that are not English' "$(grep -niE "$words" $programs $prose)"

# Files that the pages name, leaving out patterns and what a build or a run makes.
report 'files named in README.md and CONTRIBUTING.md exist' "$(grep -ohE '`(tools|common|formats|kernels|tests|man|pipelines|models)/[^` ]*`' \
    README.md CONTRIBUTING.md | tr -d '`' | grep -v '[{*<]' | grep -vE 'name|ccld-X|^models/(yfcc|published)' | sort -u |
    while read -r path; do [ -e "$path" ] || echo "$path"; done)"

# Functions that nobody calls: an external symbol of the library that no other object file refers to
# and that its own source mentions only once. Exceptions: functions that tests need to give what is
# random, and values for tests and benchmarks.
seams='_drawn$|_published$|^tfevents_path$'
uncalled() {
    nm -A "$build/libccld.a" $(find "$build/tools" -name '*.o') | awk '
        NF >= 2 { type = $(NF - 1); name = $NF }
        NF >= 2 && type == "T" { split($1, path, ":"); defined[name] = path[2] }
        NF >= 2 && type == "U" { used[name] = 1 }
        END { for (name in defined) if (!(name in used)) print name }' | grep -vE "$seams" | sort |
        while read -r name; do
            file=$(grep -lE "^[a-z].*\b$name\(" $(echo "$programs" | grep '\.c$'))
            [ "$(cat $file /dev/null | grep -cE "\b$name\b")" -gt 1 ] || echo "$name"
        done
}
case $(cat "$build/flags" 2>/dev/null) in
*-fsanitize*) ;;
*) report 'every function of the library has a caller in the programs' "$(uncalled)" ;;
esac

echo "1..$number"
[ $failed = 0 ]
