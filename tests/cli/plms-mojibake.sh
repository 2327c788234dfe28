# Mojibake is not repaired, but noticed with -v.
$SYNTH -q -o model
sample() {
    ccld-plms -m model --size 64 --steps 1 "$@" >stream
}
garbled=$(printf 'a caf\303\203\302\251')
sample -v "$garbled" 2>&1 | grep -ac 'looks like'
sample -v "$garbled" 2>&1 | grep -a 'looks like' | sed 's/.*looks/looks/'
sample "$garbled" 2>&1 | grep -ac 'looks like' || true
sample -v "$(printf 'a caf\303\251')" 2>&1 | grep -ac 'looks like' || true
