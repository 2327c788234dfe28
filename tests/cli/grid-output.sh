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
