$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 2"
try() {
    status=0
    $plms "$@" >out || status=$?
    echo $status $(wc -c <out)
}
printf 'a cat\na dog:2\n' >list
# The images of the stream, each in its file; numbers count from --first.
$plms --prompts list -n 2 --first 4 >stream
try --prompts list -n 2 --first 4 -o 'out-%05d.png'
ls out-*
ccld-grid -q stream | pngtopnm >pixels
ccld-grid -q out-*.png | pngtopnm | cmp - pixels && echo "the same pixels"
pngtopnm -text text out-00006.png >/dev/null
cat text
# One image needs no number; a name with a percent sign, other formats, whose comments are the stream's.
try 'a cat' -o one.ppm
try 'a cat' -o '100%%-%d.pam'
ls one.ppm 100*
$plms 'a cat' | cmp - one.ppm
pamfile -machine '100%-0.pam' | cut -d ' ' -f 2-
grep -a '^# ' '100%-0.pam' >comments
grep -a '^# ' one.ppm | cmp - comments
cat comments
# All settings are recorded.
$plms 'a cat' --method ddim --eta 0.5 --schedule ddpm --steps 5 --init one.ppm --starting-timestep 0.8 --embed-noise 0.25 \
    --guidance-start 0.7 -o all.png
pngtopnm -text text all.png >/dev/null
cat text
# Files that exist are refused before anything is sampled, unless they are to be overwritten; a pipe's when they come.
cp out-00005.png kept.png
try --prompts list -o 'out-%05d.png' --first 3
cmp out-00005.png kept.png
ls out-00003.png 2>/dev/null || echo "nothing was written"
rm out-00004.png
try --prompts list -n 2 --first 4 --seed 9 -o 'out-%05d.png' --force
cmp -s out-00005.png kept.png || echo overwritten
rm out-*
echo old >out-1.png
printf 'a cat\na dog\n' | try -b 1 -o 'out-%d.png'
ls out-*
cat out-1.png
# Names.
try a -o 'x%d-%d.png'
try a -o 'x%s.png'
try a -o 'x%5'
try a -o x.jpg
try a -n 2 -o x.png
try --prompts list -o x.png
try <list -o x.png
try a -o x.png -o -
try a --force
try a -o nosuch/x.png
try a -o nosuch/%d.png
ls x* || :
# One image needs no number, wherever its prompt is from; the second line of a pipe is refused when it comes.
: | try --images one.ppm -o x.png
try --images nosuch.ppm -o nosuch.png </dev/null
echo a | try -o line.png
printf 'a\nb\n' | try -o lines.png
printf 'a\nb\n' | try -b 1 -n 2 -o several.png
{ echo a; while [ ! -e waited.png ]; do sleep 0.1; done; } | try -o waited.png
ls x.png *line*.png several.png waited.png nosuch.png 2>/dev/null || :
# A folder that cannot be written to, and what is in the way of a file.
mkdir dir.png
try a -o dir.png
try a -o dir.png --force
