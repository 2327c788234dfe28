shapes=${SYNTH%/*}/shapes
$shapes -q -o drawn -n 60 --pairs pairs
cut -f 1 pairs | sort >list
head -n 40 list | ccld-encode -q -o one
tail -n 20 list | ccld-encode -q -o two
find="ccld-find -q"
# The best first, with a score as ccld-score gives it.
$find one 'a red star' -k 3 >best
[ "$(wc -l <best)" = 3 ] && sort -s -g -r best | cmp - best
cut -f 2 best | xargs ccld-score -q --prompt 'a red star' | tail -n +2 | cut -f 2,4 | while IFS='	' read -r path cosine; do
    grep "	$path$" best | awk -v c="$cosine" '{ d = $1 - c; print (d < 2e-6 && d > -2e-6 ? "as ccld-score" : $0) }'
done
# 20 of them, or all above a score, or the first of these.
$find one 'a red star' | wc -l
$find one 'a red star' -k 1000 >all
wc -l <all
least=$(sed -n 7p all | cut -f 1)
$find one 'a red star' --above "$(awk -v x="$least" 'BEGIN { printf "%.6f", x - 0.000001 }')" >above
head -n 7 all | cmp - above
$find one 'a red star' --above 1 | wc -l
$find one 'a red star' --above -1 -k 3 | cmp - best
# Prompts as operands, as options and in any order with stores; weights, images.
$find one --prompt 'a red star' -k 3 | cmp - best
$find --prompt 'a red star:2' -k 3 one | cmp - best
$find one 'a red star:2' 'a blue circle:-1' -k 5 >mixed
$find --prompt 'a blue circle:-1' one 'a red star:2' -k 5 | cmp - mixed
first=$(head -n 1 list)
$find one --image "$first" -k 1 | cut -f 2
$find one "@$first:2" 'a red star' -k 5 >with
$find one --image "$first:2" 'a red star' -k 5 | cmp - with
$find one "$first" -k 1 >/dev/null
mkdir 'a red star'
$find one --prompt 'a red star' -k 3 | cmp - best
rmdir 'a red star'
# Several stores: one more column. They, and a store in parts, give what one store gives.
$find one two 'a red star' -k 30 | cut -f 1 | sort -u
$find one/ two/ 'a red star' -k 1000 | cut -f 2- >both
ccld-encode -q -o whole <list
$find whole 'a red star' -k 1000 | cmp - both
ccld-encode -q --devices 2 --device cpu -o parts <list
$find parts 'a red star' -k 1000 | cut -f 2- | cmp - both
$find parts 'a red star' -k 1 | cut -f 1 | sed 's/[01]$/N/'
# For ccld-shards remove, which may read them while they are listed.
$find --to-remove parts 'a red star' -k 7 >records
$find parts 'a red star' -k 7 | cut -f 3 | cmp - - <<END
$(cut -f 2 records)
END
$find --to-remove parts 'a red star' -k 7 | ccld-shards remove parts
$find parts 'a red star' -k 1000 | cut -f 2- >left
tail -n +8 both | cmp - left
# Names with control characters, NUL, JSON.
cp "$first" 'a	tab
and a line.png'
printf 'a\ttab\nand a line.png\0' | ccld-encode -q -0 -o odd
$find odd x | sed 's/^[^	]*/S/'
$find -0 odd x | sed -z 's/^[^	]*/S/' | od -c
$find --to-remove odd x | ccld-shards remove -q odd
$find --json one two 'a red star' -k 1 | sed 's/"score":[0-9.]*/"score":S/'
ccld-find one two 'a red star' -k 4 >/dev/null
