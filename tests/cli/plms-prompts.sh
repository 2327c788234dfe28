$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 2"
said() { # prints the prompts and weights in the headers
    grep -a '^# \(prompt\|guidance\)=' stream
}
pixels() {
    tail -c 12288 "$1" >"$2"
}
# What follows the last colon is the weight if it is a number.
printf '%s\n' 'a cat' 'a cat:2' 'a cat:-1.5' 'a cat: 1e0 ' 'scene 12:30' 'cat: dog' 'cat:' ':2' 'cat:0x10' 'cat:nan' 'a:b:4' \
    'http://host/a.jpg' 'http://host/a.jpg:5' 'https://host:80/a' |
    ccld-plms -q -m model --size 64 --steps 1 --guidance 1.5 >stream
said
# A suffix that may be meant otherwise, an escaped one, and a signed one.
for prompt in 'scene 12:30' 'scene 12\:30' 'scene 12:+30' 'ratio 16:9' 'ratio 16\:9' 'ratio 16\:9:2' 'a cat:11' 'a cat:+11'; do
    $plms "$prompt" >stream
    said
done
for i in 1 2 3 4 5 6 7 8; do echo "ratio $i:$i"; done | ccld-plms -q -m model --size 64 --steps 1 >stream
$plms '' >stream
said
# All of them make one image, even more than eight.
$plms -n 2 a b:2 c:-1 d http://host e f g h i:.5 j >stream
pamfile -allimages -machine stream
said
# Each of them matters, and so does its weight; weight 0 is the same as no prompt.
$plms a:2 b:3 >stream
pixels stream one
for prompts in 'a:2' 'b:3' 'a:2 b:2' 'a:2 b:-3' 'a:2 c:3' 'a:2 b:3 c:0'; do
    $plms $prompts >stream
    pixels stream other
    cmp -s one other && echo "'$prompts' makes the same picture"
done
# Line breaks and invalid UTF-8 survive in the headers.
$plms 'two
lines' 'back\slash' "$(printf '\377\001')" >stream
said
# A prompt that is too long is truncated with a warning: what follows its 75 tokens does not matter.
words=$(yes a | head -n 75 | tr '\n' ' ')
$plms "$words" >stream
pixels stream one
$plms "$words b" >stream
pixels stream two
$plms "$words c d" >stream
pixels stream three
cmp one two
cmp one three
