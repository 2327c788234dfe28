case $CCLD_DEVICE in
cpu) ;;
*) echo "a GPU's libraries may round otherwise in other batches"; exit 77 ;;
esac
$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 2 --method ddim --seed 12345678901234567890"
# An image depends only on prompt, seed and number.
$plms -n 4 a b:2 >four
for together in '-b 1' '-b 3' '--batch-size 100 --threads 1' '--low-memory --threads 3'; do
    $plms -n 4 $together a b:2 | cmp - four
done
$plms -n 2 a b:2 >parts
$plms -n 2 --first 2 --batch-size 2 a b:2 >>parts
cmp parts four
grep -a '^# \(seed\|index\)=' four
# Also with more prompts than fit in one pass, with noise in every step, and if not square.
for options in '--embed-noise 0.3 a b:-1' '--guidance-start 0.9 a b:0.5' '--method dpm2m a b c d e f g h i' '--method ddpm a b:-1' '--method plms --size 64x128 a'; do
    $plms -n 2 $options >two
    $plms -n 2 -b 1 $options | cmp - two
    $plms -n 2 --low-memory $options | cmp - two
    $plms -n 1 --first 1 $options >last
    tail -c $(wc -c <last) two | cmp - last
done
# The noise in embeddings differs per image, not only per prompt; without it the image is the plain one.
$plms -n 4 --embed-noise 0 a b:2 | cmp - four
$plms -n 2 --embed-noise 0.3 a b:2 | grep -a '^# \(embed_noise\|index\)='
# Also with lines of prompts: batches span lines of equal weights and end where weights differ.
printf 'a\nb\nc:2\nd\n' >lines
$plms -n 2 -b 1 <lines >all
for together in '-b 3' --low-memory; do
    $plms -n 2 $together <lines | cmp - all
done
# All images differ.
pamsplit -quiet all %d.pnm
for i in *.pnm; do tail -c 12288 $i | cksum; done | sort -u | wc -l
