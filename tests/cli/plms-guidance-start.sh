# Guidance that starts late: before, the prompts have their normalized weights.
$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 4 --method ddim --seed 5"
# Without the headers, which record the options.
pixels() {
    ccld-grid -q | pngtopnm
}
$plms -n 2 a | pixels >guided
$plms -n 2 a --guidance-start 1 | pixels | cmp - guided
$plms -n 2 a:1 | pixels >plain
$plms -n 2 a --guidance-start 0 | pixels | cmp - plain
$plms -n 2 a:1 --guidance-start 0.5 | pixels | cmp - plain
$plms -n 2 a --guidance-start 0.7 >late
pixels <late >pixels
cmp -s pixels plain || cmp -s pixels guided || echo 'between the two'
grep -a '^# guidance' late
$plms a:6 b:2 --guidance-start 0 | pixels >shares
$plms a:0.75 b:0.25 | pixels | cmp - shares
# Prompts that cancel out cannot be normalized.
$plms a:2 b:-2 | pixels >nothing
$plms a:2 b:-2 --guidance-start 0 | pixels | cmp - nothing
ccld-plms -m model a --guidance-start 2 || echo $?
