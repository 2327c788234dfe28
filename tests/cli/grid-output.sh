printf 'P5 2 1 255\n\001\002' >a.pgm
printf 'P5 3 1 255\n\001\002\003' >b.pgm
ccld-grid a.pgm >expected.png
try() {
    status=0
    ccld-grid -q "$@" || status=$?
    echo $status
}
# A file appears when it is complete; on failure the old one stays.
try -o sheet.png a.pgm
cmp sheet.png expected.png
echo old >sheet.png
try -o sheet.png a.pgm b.pgm
cat sheet.png
try -o sheet.png a.pgm
cmp sheet.png expected.png
ln -s sheet.png link.png
echo old >sheet.png
try --output link.png a.pgm
cmp sheet.png expected.png
[ -L link.png ]
try -o nowhere/sheet.png a.pgm
mkdir folder
try -o folder a.pgm
ls folder
# A name of another format is refused, even if there is no such file.
cp a.pgm photo.JPG
try -o photo.JPG b.pgm
cmp a.pgm photo.JPG
for i in jpg jpeg webp gif tif tiff bmp pbm pgm ppm pnm pam avif heic heif jxl Tiff; do
    try -o new.$i a.pgm
done
ls new.* 2>/dev/null || :
try -o sheet a.pgm
try -o a.jpg.png a.pgm
rm sheet a.jpg.png
# A pipe is written directly.
mkfifo pipe
cat pipe >copy &
try -o pipe a.pgm
wait $!
cmp copy expected.png
[ -p pipe ]
# Standard output that is full, closed, or no longer read.
ccld-grid -q a.pgm >/dev/full || echo $?
ccld-grid -q a.pgm >&- || echo $?
exec 3<>pipe 4>pipe 3>&-
ccld-grid -q a.pgm >&4 || echo $?
exec 4>&-
ls -d *.p*
