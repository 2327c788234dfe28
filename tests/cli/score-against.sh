shapes=${SYNTH%/*}/shapes
score="ccld-score -q"
$shapes -q -o drawn -n 60 --pairs pairs
cut -f 1 pairs | sort >list
head -n 40 list | ccld-encode -q -o store
column() { # NAME: a column of the table
    awk -F '\t' -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i } NR == 2 { print $at }'
}
# The store's own images are its images: no distance, nothing left out.
$score --against store $(head -n 40 list) >same
head -n 1 same
for c in samples reference precision recall coverage memorised; do
    echo $c $(column $c <same)
done
# Store, folder and list of the same images, and the order of the samples: but for rounding the same. What is
# extrapolated depends on the order.
mkdir -p folder/sub
for i in $(head -n 40 list); do
    case $i in *5.png) cp $i folder/sub ;; *) cp $i folder ;; esac
done
echo junk >folder/notes.txt
head -n 40 list >some
tail -n 20 list >others
$score --against store $(cat others) >a
near() { # NAME FILE: columns as of file a, within 1e-4
    paste a $2 | awk -F '\t' -v name="$1" 'NR == 2 { for (i = 1; i <= NF / 2; i++) { d = $i - $(i + NF / 2)
        if (i != 4 && (d > 1e-4 || d < -1e-4)) bad = bad " " $i " " $(i + NF / 2) } print name (bad ? bad : " the same") }'
}
$score --against folder $(cat others) >b
near folder b
$score --against some $(cat others) >b
near list b
$score --against store $(sort -r others) >b
near order b
$score --against folder/sub --against folder --reference 1000 $(cat others) >b
column reference <b
# Blurred images are further away, noise further still.
for i in $(cat others); do
    pngtopnm $i | pnmsmooth -size 9 9 2>/dev/null
done >blurred.ppm
for i in $(cat others); do
    echo P3 64 64 255
    awk -v seed="${i#*/}" 'BEGIN { srand(seed + 1); for (i = 0; i < 12288; i++) print int(256 * rand()) }'
done | pnmtopnm >noise.ppm
{ column kernel <a; $score --against store blurred.ppm | column kernel; $score --against store noise.ppm | column kernel; } >kernels
sort -n kernels | cmp - kernels && echo "true, blurred, noise"
# JSON has the same numbers.
$score --against store --json $(cat others) | tr ',' '\n' | sed 's/.*://; s/}//' >numbers
tail -n 1 a | tr '\t' '\n' | cmp - numbers
$score --against store --json $(cat others) | sed 's/:[0-9.-]*/:X/g'
# A part of the reference, which is said, the same for a seed.
ccld-score --against store --reference 20 $(cat others) >b
column reference <b
$score --against store --reference 20 --seed 1 $(cat others) | cmp -s - b && echo "seeds choose the same"
$score --against store --reference 20 $(cat others) | cmp - b
# The closest pairs.
ccld-score -v --against store $(head -n 8 list) 2>&1 >b | grep "distance [0-9]"
