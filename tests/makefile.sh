#!/bin/sh
# The Makefile's own goals, with stand-ins for Debian's tools: which packages are missing, installing and removing, and that
# clones in different folders build the same. TAP.
# usage: [BUILD=build] tests/makefile.sh
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
unset MAKEFLAGS MAKELEVEL MFLAGS DESTDIR PREFIX PKG_CONFIG
export LC_ALL=C
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
log=$work/log
. tests/support/tap.sh
echo 1..15

# dpkg-query knows the packages of $INSTALLED, lines "PACKAGE ARCHITECTURE"; apt-get prints what it is asked to install.
mkdir "$work/bin"
cat >"$work/bin/dpkg" <<'END'
#!/bin/sh
echo amd64
END
cat >"$work/bin/dpkg-query" <<'END'
#!/bin/sh
for package; do :; done
awk -v p="$package" '$1 == p { print $2 " install ok installed"; found = 1 } END { exit !found }' "$INSTALLED"
END
cat >"$work/bin/apt-get" <<'END'
#!/bin/sh
echo "apt-get $*"
END
printf '#!/bin/sh\necho 0\n' >"$work/bin/id"
chmod +x "$work/bin"/*
export INSTALLED="$work/installed"
packages() { # GOAL: the packages that make GOAL would install
    PATH=$work/bin:$PATH make --no-print-directory "$1" 2>>"$log" | sed -n 's/^installing //p' | tr ' ' '\n' | sort
}
: >"$INSTALLED"
packages deps >"$work/all"
packages deps-build >"$work/for-build"
ok "$(grep -qx netpbm "$work/all" && grep -qx mandoc "$work/all" && grep -qx liblmdb-dev "$work/all"; echo $?)" \
    'make deps installs what building and testing need'
ok "$(grep -qx liblmdb-dev "$work/for-build" && ! grep -Eqx 'netpbm|mandoc|perl|g\+\+' "$work/for-build"; echo $?)" \
    'make deps-build installs no package that only tests need'
report 'make demo needs no other packages' "$(make -n demo 2>&1 | grep -E 'netpbm|mandoc')"
sed 's/$/ amd64/' "$work/all" >"$INSTALLED"
report 'nothing is missing if all are installed' "$(packages deps)"
sed 's/^liblmdb-dev.*/liblmdb-dev arm64/' "$INSTALLED" >"$work/foreign" && mv "$work/foreign" "$INSTALLED"
ok "$([ "$(packages deps)" = liblmdb-dev ]; echo $?)" 'a library of another architecture does not count'

# pkg-config of a cross compiler has a name of its own.
printf '#!/bin/sh\necho "asked $*" >>"%s"\nexec pkg-config "$@"\n' "$work/asked" >"$work/bin/arm-pkg-config"
chmod +x "$work/bin/arm-pkg-config"
make -n CUDA=0 MPI=0 PKG_CONFIG="$work/bin/arm-pkg-config" programs >"$log" 2>&1
ok "$(grep -q -- '--libs.*lmdb' "$work/asked"; echo $?)" 'PKG_CONFIG names another pkg-config'

to="$work/a root/usr local"
install_to() {
    make --no-print-directory "$1" BUILD="$build" DESTDIR="$work/a root" PREFIX='/usr local' >"$log" 2>&1
}
install_to install-built
ok $? 'make install into folders with blanks'
report 'all programs are there' "$(for t in tools/ccld-*.c; do
    t=${t##*/} && [ -x "$to/bin/${t%.c}" ] || echo "$t"
done)"
"$to/bin/ccld-plms" --device cpu --steps 2 'a ring' >"$work/ring.ppm" 2>"$log"
ok $? 'an installed program finds the installed model'
for t in tools/ccld-*.c; do
    t=${t##*/} t=${t%.c}
    cat "$to/share/bash-completion/completions/$t" >"$work/scripts" 2>>"$work/bad" || continue
    "$build/$t" --help | sed -n 's/^ .*\(--[a-z0-9-]*\).*/\1/p' | while read -r option; do
        for script in "$to/share/bash-completion/completions/$t" "$to/share/zsh/site-functions/_$t" \
            "$to/share/fish/vendor_completions.d/$t.fish"; do
            grep -q -e "$option" -e "-l ${option#--} " "$script" || echo "$script lacks $option"
        done
    done
done >>"$work/bad"
report 'completions of every shell have every option' "$(cat "$work/bad")"
report 'shells accept them' "$(for shell in bash zsh fish; do
    command -v $shell >/dev/null || continue
    case $shell in
    bash) set -- "$to"/share/bash-completion/completions/* ;;
    zsh) set -- "$to"/share/zsh/site-functions/* ;;
    fish) set -- "$to"/share/fish/vendor_completions.d/* ;;
    esac
    for script; do $shell -n "$script" 2>&1 || echo "$shell: $script"; done
done)"
cat >"$work/complete" <<'END'
. "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
"_${1//-/_}"
printf '%s\n' "${COMPREPLY[@]}"
END
complete() { # WORD...: what bash offers for the last one
    (cd "$work/a root" && bash "$work/complete" "$to/share/bash-completion/completions/$1" "$@" | sort | tr '\n' ' ')
}
[ "$(complete ccld-fit --lr-schedule '')" = 'constant cosine ' ] && [ "$(complete ccld-fit --lr-s)" = '--lr-schedule ' ] &&
    [ "$(complete ccld-fit --lr-schedule = co)" = 'constant cosine ' ] && [ "$(complete ccld-fit --lr '')" = ' ' ] &&
    [ "$(complete ccld-shards ve)" = 'verify ' ] && [ "$(complete ccld-fit -o us)" = 'usr local ' ]
ok $? 'bash completes options, their values, subcommands and folders'
install_to uninstall
report 'make uninstall removes every file' "$(find "$work/a root" -not -type d; find "$work/a root" -name ccld; grep -i error "$log")"

for folder in first 'second one'; do
    mkdir "$work/$folder" && cp -r Makefile common "$work/$folder" &&
        make -C "$work/$folder" --no-print-directory CUDA=0 MPI=0 BUILD=build CFLAGS='-O1 -g' build/common/base/message.o >"$log" 2>&1
done
cmp "$work/first/build/common/base/message.o" "$work/second one/build/common/base/message.o" >>"$log" 2>&1
ok $? 'clones in different folders build the same'
# What the compiler wrote about headers, except of files that are gone.
printf 'include Makefile\nprint: ; @echo $(MAKEFILE_LIST)\n' | make -s -f - BUILD="$build" print | tr ' ' '\n' | sort >"$work/read"
find "$build/common" "$build/formats" "$build/kernels" "$build/tools" "$build/tests" -name '*.d' | while read -r found; do
    source=${found#"$build/"} && source=${source%.d}
    for kind in c cu cc; do [ ! -e "$source.$kind" ] || echo "$found"; done
done | sort | comm -13 "$work/read" - >"$work/unread"
report 'objects are made again when a header changes' "$(cat "$work/unread")"
[ $failed = 0 ]
