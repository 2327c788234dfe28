# Sourced by bash tests that run programs in an empty folder, which is removed at the end: sets `top`, the project, and `build`, with the
# programs, which are in PATH; then as tap.sh.
top=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$top" && cd "${BUILD:-build}" && pwd) || exit 2
export PATH="$build:$PATH" LC_ALL=C
unset CCLD_MODEL
work=$(mktemp -d) || exit 2
trap 'kill -KILL $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 2
. "$top/tests/support/tap.sh"

# Makes RANDOM repeat what it was in another run: SEED=n of the environment.
draw() {
    RANDOM=${SEED:-$$}
    echo "# SEED=${SEED:-$$}"
}
