$SYNTH -q -o model
ccld-encode -q -m model --size 64 -o store "$GOLDEN"/images/*.jpg
try() {
    status=0
    ccld-shards "$@" || status=$?
    echo $status
}
try
try count store
try ls
try stat
try join store
try cat store
try cat store first
try cat store -- -1
try cat store 5
try ls nowhere
mkdir empty
try stat empty
try verify empty
# Records are binary.
if script -qec true typescript >/dev/null 2>&1; then
    script -qec 'ccld-shards cat store 0' typescript >terminal || echo $?
    grep -c 'will not write binary data to a terminal' terminal
else
    printf '2\n1\n'
fi
ccld-shards ls store >/dev/full || echo $?
