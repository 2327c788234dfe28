show() { # prints width, height, depth and color type of the PNG and its pixels with alpha
    ccld-grid -q "$@" >sheet.png
    od -A n -t u1 -j 16 -N 10 sheet.png | awk '{ print $4 "x" $8, $9 " bits, type", $10 }'
    pngtopam -alphapam sheet.png >sheet.pam
    sed '1,/^ENDHDR$/d' sheet.pam | od -A n -t u1 -v -w16
}
printf 'P5 2 1 255\n\001\002' >gray
printf 'P5 2 1 65535\n\001\002\003\004' >gray16
printf 'P6 2 1 255\n\001\002\003\004\005\006' >color
printf 'P6 2 1 65535\n\001\002\003\004\005\006\007\010\011\012\013\014' >color16
printf 'P7\nWIDTH 2\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n\001\100\002\200' >gray_alpha
printf 'P7\nWIDTH 2\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n\001\002\003\100\004\005\006\200' >color_alpha
printf 'P5 2 1 3\n\000\002' >four_levels
# A single image of each type keeps its type.
for i in gray gray16 color color16 gray_alpha color_alpha four_levels; do
    echo "$i"
    show $i
done
# Mixed images use the maximum of each: color, 16 bits, alpha.
for i in gray16 color gray_alpha; do
    echo "gray $i"
    show gray $i
done
echo "all"
show gray16 color gray_alpha four_levels
# From one image to many: rows, columns and padding.
for n in 1 2 3 4 5 9 10; do
    for i in $(seq $n); do cat gray; done >stream
    ccld-grid <stream >sheet.png
done
show --columns 1 gray gray
show --columns 3 gray gray
show --columns 0 gray gray
show --padding 1 gray gray_alpha gray
# Several images per file, standard input among files, streams in files.
cat gray color >two
show two gray - gray16 <color
show - <two
printf 'P2 2 1 255\n1 2\n' | show
# Other formats, in the colors that a person sees.
for i in gray.jpg cmyk.jpg rgba.png gray16.png palette_trns.png exif_orientation.jpg; do
    ccld-grid "$GOLDEN/images/$i" >sheet.png
    od -A n -t u1 -j 24 -N 2 sheet.png
done
