printf 'P5 2 1 255\n\001\002' >a.pgm
try() {
    status=0
    ccld-grid -q "$@" >sheet || status=$?
    echo $status $(wc -c <sheet)
}
try --columns -1 a.pgm
try --columns many a.pgm
try --columns 1000001 a.pgm
try --padding -1 a.pgm
try --padding 10001 a.pgm
try --max-pixels 0 a.pgm
try --output
try --nosuch a.pgm
