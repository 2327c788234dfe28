plms="ccld-plms -q --steps 5"
score="ccld-score -q"
# Two prompts, three images each.
printf 'a red star\na blue circle\n' >list
$plms --prompts list -n 3 >stream
$score stream >table
cut -f 1-3,6 table
$score <stream | cut -f 1,3- >a
cut -f 1,3- table | cmp - a
# Batches make no difference, nor do files of one image each without comments, whose prompt is an option.
$score -b 1 stream | cmp - table
tail -n +2 table | while IFS='	' read -r n path seed cosine margin prompt; do
    $plms "$prompt" --first $(((n - 1) % 3)) | pnmtopng -quiet >$n.png
    for p in 'a red star' 'a blue circle'; do
        $score --prompt "$p" $n.png | tail -n 1 | cut -f 4
    done | paste - - | {
        read -r star circle
        case $prompt in *star) own=$star other=$circle ;; *) own=$circle other=$star ;; esac
        echo "$own $other $cosine $margin" | awk '{
            d = $1 - $2 - $4
            print ($1 == $3 && d < 2e-6 && d > -2e-6 ? "own cosine, and margin over the other" : $0) }'
    }
done
# One prompt has no margin; one of two that are weighted.
$score --prompt 'a red star' 1.png | cut -f 5- | tail -n 1
$score --prompt 'a red star:2' --prompt 'a blue circle:-1' --images 2.png:0.5 1.png | cut -f 6 | tail -n 1
# Combined prompts as ccld-plms names them, images among them, in a stream or as options; texts with colons and an @.
cp 2.png 'odd:name@.png'
$plms 'a red star: 5:2' '\@home' 12:30 --images 'odd\:name@.png:0.5' >combined
grep -a '^# prompts=' combined
$score combined | cut -f 4 >a
pnmtopng -quiet combined >combined.png
$score --prompt 'a red star\: 5:2' --prompt '\@home:3' --prompt '12:30:+3' --images 'odd\:name@.png:0.5' combined.png | cut -f 4 | cmp - a
# A prompt without guidance is the prompt all the same, and a negative one its opposite.
$plms 'a red star:0' >zero
$plms 'a red star:-1' >negative
pnmtopng -quiet zero >zero.png
pnmtopng -quiet negative >negative.png
$score zero | cut -f 4 >a
$score --prompt 'a red star' zero.png | cut -f 4 | cmp - a
{ $score negative; $score --prompt 'a red star' negative.png; } | grep ^1 | cut -f 4 | paste - - |
    awk '{ d = $1 + $2; print ($1 != 0 && d < 2e-6 && d > -2e-6 ? "opposite" : $0) }'
# Files of ccld-plms say the same as the stream, comments included; damaged or foreign texts nothing.
printf 'a red star\nein "Stern", \342\230\205: rot\t@2.png:0.5\n' >list
$plms --prompts list -n 2 >stream
$plms --prompts list -n 2 -o 'file-%d.png'
$score stream | cut -f 3- >a
$score file-?.png | cut -f 3- | cmp - a
tail -n 1 a | cut -f 4
$score --top 2 stream >a
$score --top 2 file-?.png | cmp - a
sed 's/red star/red stax/' file-0.png >damaged.png
sed 's/parameters/Parameters/' file-0.png >foreign.png
for i in damaged foreign; do
    $score $i.png || echo $?
done
# JSON.
$score --json stream | head -n 1 | sed 's/[0-9.-]*,"margin":[0-9.-]*/C,"margin":M/'
$score --json --prompt 'a "red"	star' 1.png | sed 's/"cosine":[0-9.-]*/"cosine":C/'
