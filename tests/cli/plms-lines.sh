$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 2"
said() {
    grep -a '^# \(prompt\|index\|guidance\)=' stream
}
# Each line is a separate image from the same noise; blank lines, CR and a byte order mark are ignored.
printf '\357\273\277a cat\r\n\n  \t\na dog:2\nscene: night' >list
$plms -n 2 --prompts list >stream
said
$plms -n 2 <list >other
cmp stream other
$plms -n 2 --prompts - <list >other
cmp stream other
$plms -n 2 -b 3 --prompts list >other
cmp stream other
$plms -n 2 'a cat' >one
$plms -n 2 'a dog:2' >two
$plms -n 2 'scene: night' >three
cat one two three | cmp - stream
# A missing or blank file.
try() {
    status=0
    $plms "$@" >stream || status=$?
    echo $status $(wc -c <stream)
}
printf '\n \t \r\n' >blank
mkdir folder
try </dev/null
try <blank
try --prompts - <blank
try --prompts blank
try --prompts blank --images "$GOLDEN/images/rgb.png"
try --prompts nosuch
try --prompts folder
printf 'a\n\nb:1e7\n' | try
printf 'a\n\nb\t@nosuch.png\n' >bad
try --prompts bad
printf 'a\n@folder:2\n' | try -b 1
try --prompts list --images nosuch.png
printf 'a\nb\0c\n' | try
