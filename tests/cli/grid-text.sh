texts() { # prints the text chunks of the PNG; IDAT and IEND end the file
    ccld-grid -q "$@" >sheet.png
    length=$(od -A n -t u1 -j 33 -N 4 sheet.png | awk '{ print (($1 * 256 + $2) * 256 + $3) * 256 + $4 }')
    tail -c +38 sheet.png | head -c $((4 + length)) | tr '\0' '@'
    echo
}
image() { # REMARKS
    printf "P6\n$1 2 1 255\nabcdef"
}
all='# prompt=%s\n# seed=%s\n# index=0\n# steps=50\n# method=plms\n# guidance=3\n# model=yfcc\n'
image "$(printf "$all" 'a cat' 0)
" >cat
image "$(printf "$all" 'a cat' 1)
" >cat1
image "$(printf "$all" 'a dog: \\\\n \\\\"brown\\\\", old' 0)
" >dog
texts cat
texts cat cat
texts cat cat1
texts cat dog
# Latin-1 is stored as tEXt, other text as iTXt.
image '# prompt=Zo\303\253\n' >zoe
texts zoe | od -A n -t x1 -v
image '# prompt=\346\235\261\344\272\254\n' >tokyo
texts tokyo | od -A n -t x1 -v
texts zoe tokyo | od -A n -t x1 -v
# netpbm reads it.
ccld-grid -q cat1 >sheet.png
pngtopam -text=text sheet.png >image
cat text
# Images without our comments, or with others, give no text.
printf 'P6 2 1 255\nabcdef' >plain
ccld-grid -q plain >sheet.png
tail -c +38 sheet.png | head -c 4
echo
image '# made by hand\n' >other
ccld-grid -q other >sheet.png
tail -c +38 sheet.png | head -c 4
echo
texts plain cat
