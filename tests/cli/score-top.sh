plms="ccld-plms -q --steps 5"
score="ccld-score -q"
printf 'a red star\na blue circle\n' >list
$plms --prompts list -n 5 >stream
said() {
    grep -a "^# $1=" | sed "s/^# $1=//"
}
best() { # PROMPT K: the largest cosines of the table
    $score stream | grep "	$1\$" | cut -f 4 | sort -rn | head -n "$2"
}
# The best of each prompt, prompts in their order, the best first, with all comments.
$score --top 2 stream >top
{ best 'a red star' 2; best 'a blue circle' 2; } | { said score <top | diff - /dev/fd/3; } 3<&0
said prompt <top
said steps <top | uniq -c
# Of all images.
$score --top 3 --overall stream | said score >three
$score stream | tail -n +2 | cut -f 4 | sort -rn | head -n 3 | cmp - three
# More than there are: all of them, each with its pixels.
$score --top 9 <stream | ccld-score -q -b 3 | tail -n +2 | cut -f 4 | sort >again
$score stream | tail -n +2 | cut -f 4 | sort | cmp - again
# Goes on to the grid.
$score --top 1 stream | ccld-grid -q -o top.png
pngtopnm top.png | pamfile -machine | cut -d ' ' -f 4-5
