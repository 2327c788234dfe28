$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 2"
said() {
    grep -a '^# \(prompt\|guidance\)=' stream
}
# The image of a line appears before the next line is written, and is the same as from a list.
cp "$GOLDEN/images/rgb.png" .
printf 'a cat\na dog:2\t@rgb.png\nscene\n' >list
$plms --prompts list >expected
$plms 'a cat' >one
mkfifo lines images
$plms --prompts - <lines >images &
exec 5>lines 6<images
echo 'a cat' >&5
dd bs=1 count=$(wc -c <one) <&6 2>/dev/null | cmp - one && echo "the first image has arrived"
printf 'a dog:2\t@rgb.png\nsce' >&5
sleep 0.3
echo ne >&5
exec 5>&-
cat one - <&6 >stream
cmp stream expected
said
# Prompts without end.
yes 'a cat' | $plms | head -c $(wc -c <one) | cmp - one
# Lines that arrive together are checked together, later ones after the images of earlier ones.
rm stream
{ echo 'a cat'; until [ -s stream ]; do sleep 0.05; done; echo 'b:1e7'; } | $plms >stream || echo status $?
cmp stream one
# Prompts of a line, separated by tabs, are those of arguments; blank ones are skipped.
$plms 'a cat' 'a dog:2' @rgb.png:-1 '\@home' >expected
printf '\ta cat\t\ta dog:2\t \t@rgb.png:-1\t\\@home\t\n' | $plms >stream
cmp stream expected
said
$plms 'a cat' --images rgb.png >expected
printf 'a cat\t@rgb.png\n' | $plms | cmp - expected
printf '@rgb.png\n' | $plms --images rgb.png >stream
said
# A missing image.
echo '@home sweet home' | $plms || echo status $?
$plms @nosuch.jpg:2 || echo status $?
