$SYNTH -q -o model
printf 'a cat\na dog with a very long description, naïve and verbose, in the garden of a neighbor\n' |
    ccld-plms -q -m model --size 64 --steps 1 -n 2 >stream
size() {
    pngtopnm "$1" | pamfile -machine | cut -d ' ' -f 4-5
}
ccld-grid -q -c 2 stream -o plain.png
ccld-grid -q -c 2 --labels stream -o labels.png
ccld-grid -q -c 2 -p 3 --labels <stream >padded.png
for i in plain labels padded; do
    echo $i $(size $i.png)
done
# Images stay where they are, but for the labels between them.
pngtopnm labels.png | pamcut -top 0 -height 64 >a
pngtopnm plain.png | pamcut -top 0 -height 64 | cmp - a
pngtopnm labels.png | pamcut -top 88 -height 64 >a
pngtopnm plain.png | pamcut -top 64 -height 64 | cmp - a
# A letter.
pngtopnm labels.png | pamcut -left 0 -width 12 -top 68 -height 16 | ppmtopgm | pgmtopbm -threshold | pnmtoplainpnm | tail -n +3
# Files of ccld-plms have labels as the stream has, images without prompts none, which is said once.
printf 'a cat\na dog with a very long description, na\303\257ve and verbose, in the garden of a neighbor\n' >list
ccld-plms -q -m model --size 64 --steps 1 -n 2 --prompts list -o 'file-%d.png'
ccld-grid -q -c 2 --labels file-?.png | cmp - labels.png
ccld-grid -q --labels "$GOLDEN/images/small.png" "$GOLDEN/images/small.png" -o x.png
ccld-grid -q --labels file-0.png -o one.png
ccld-grid -q --labels one.png -o x.png
# Sizes that differ are refused unless they are to fit.
ccld-grid -q stream "$GOLDEN/images/small.png" -o x.png || echo $?
ccld-grid -q -c 3 --fit stream "$GOLDEN/images/small.png" "$GOLDEN/images/exif_orientation.jpg" \
    "$GOLDEN/images/rgba.png" -o fit.png
size fit.png
ccld-grid -q -c 1 --fit "$GOLDEN/images/extreme.png" stream -o fit.png
size fit.png
