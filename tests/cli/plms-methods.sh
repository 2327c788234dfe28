$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 4"
# Images do not depend on the batch, and each method gives a different one.
for method in ddpm ddim prk plms pie plms2 iplms dpm2m; do
    $plms -n 2 --method $method a >$method
    $plms --first 1 --method $method a >last
    tail -c $(wc -c <last) $method | cmp - last
    grep -a -m 1 '^# method=' $method
done
for eta in 0.5 1; do
    $plms --method ddim --eta $eta a >eta$eta
done
for schedule in ddpm log; do
    $plms --schedule $schedule a >$schedule-times
done
$plms -n 2 --method ddim --eta 0 a | cmp - ddim
$plms -n 2 --schedule spliced a | cmp - plms
# With eta 1, DDIM is DDPM.
$plms --method ddpm a | tail -c 12288 >pixels
tail -c 12288 eta1 | cmp - pixels
rm eta1 last pixels
$plms --seed 1 a >seed
$plms --steps 5 a >steps
$plms --guidance 4 a >guidance
$plms --autoencoder-scale 4 a >scale
for i in ddpm ddim prk plms pie plms2 iplms dpm2m eta0.5 ddpm-times log-times seed steps guidance scale; do
    echo "$(tail -c 12288 $i | cksum) $i"
done | sort | awk '$1 == before { print $3, "is the same as", name } { before = $1; name = $3 } END { print NR }'
