# netpbm's tools read the stream.
$SYNTH -q -o model
ccld-plms -q -m model --size 64x128 --steps 2 -n 3 cat >stream
pamsplit stream 'image%d.ppm' >/dev/null 2>&1
ls image*
cat image0.ppm image1.ppm image2.ppm | pamfile -allimages -
pnmtopng <stream >first.png 2>/dev/null
pngtopam first.png 2>/dev/null | pamfile
# A grid has exactly these pixels, and so has one made from files.
ccld-grid -q <stream >sheet.png
pngtopam sheet.png >sheet.pam
pamfile sheet.pam
pamcut -left 0 -top 64 -width 128 -height 64 sheet.pam | pamtopnm >third.ppm
pamtopnm image2.ppm | cmp - third.ppm
ccld-grid -q -o files.png image0.ppm image1.ppm image2.ppm
pngtopam files.png | cmp - sheet.pam
ccld-plms -q -m model --size 64x128 --steps 2 -n 3 cat | ccld-grid -q | pngtopam | cmp - sheet.pam
