# Prompt fidelity: right on the small world's pictures, wrong on others', of streams and of files.
shapes=${SYNTH%/*}/shapes
fidelity=${SYNTH%/synth/*}/bench/bench-fidelity
$shapes -q -o train -n 40 --pairs train.tsv
$shapes -q -o holdout -n 20 --split holdout --pairs holdout.tsv
$fidelity -q train/*.png holdout/*.png 2>warnings | tail -n 1 | tr -s ' '
grep -c 'does not name one known object' warnings

# One of four pictures is of what its prompt says; two of its colour, two of its shape.
one() { # GUIDANCE PICTURE PROMPT
    printf 'P6\n# prompt=%s\n# guidance=%s\n' "$3" "$1"
    pngtopnm "$2" | tail -n +2
}
shapes_known='circle|square|triangle|star|heart|moon|cross|ring|diamond|flower'
alone=$(grep -Evm 1 "($shapes_known) .*($shapes_known)" train.tsv)
path=${alone%%	*}
said=$(echo "$alone" | grep -Eo "[a-z]+ ($shapes_known)")
color=${said% *} shape=${said#* }
other=star not=red; [ $shape != star ] || other=square; [ $color != red ] || not=blue
{
    one 3 "$path" "a $color $shape"
    one 3 "$path" "a $not $shape"
    one 3 "$path" "a $color $other"
    one 3 "$path" "a $not $other"
    one 5 "$path" "a small $color $shape:5"
    one 5 "$path" "two $shape"
} >stream.ppm
$fidelity stream.ppm
$fidelity <stream.ppm 2>/dev/null | tail -n 1

for file in nosuch.ppm /dev/null holdout.tsv; do
    status=0; $fidelity $file || status=$?; echo $status
done
head -c 300 stream.ppm >cut.ppm
status=0; $fidelity cut.ppm || status=$?; echo $status

# Prompts of the two lists are different combinations, and all of them.
$fidelity --list seen | wc -l
$fidelity --list holdout | wc -l
{ $fidelity --list seen; $fidelity --list holdout; } | grep -Eo "[a-z]+ ($shapes_known)" | sort -u | wc -l
