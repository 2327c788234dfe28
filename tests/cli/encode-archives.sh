# The images of archives are encoded without unpacking; a rerun skips them; a damaged archive gives what is whole.
$SYNTH -q -o model
mkdir -p album/z/.cache
for name in gray photo420; do cp "$GOLDEN/images/$name.jpg" album; done
cp "$GOLDEN/images/rgb.png" 'album/ü b.png'
cp "$GOLDEN/images/rgb.png" album/z/.cache
echo 'a caption' >album/gray.txt
tar --format=pax --sort=name --mtime=2020-01-01 -cf a.tar album
gzip -c a.tar >b.TGZ
encode() {
    status=0
    ccld-encode -m model --size 64 "$@" || status=$?
    echo status $status
}
encode -o store a.tar
echo b.TGZ | encode -o store -
ccld-shards ls store | tee listed
encode -o store a.tar b.TGZ
# The records are those of the files.
ccld-encode -q -m model --size 64 -o files album
for i in 0 1 2; do
    ccld-shards cat store $i | tail -c 3072 >member
    ccld-shards cat files $i | tail -c 3072 >file
    cmp member file
done
# Members can be named, in any order.
printf 'a.tar!/album/ü b.png\nb.TGZ!/album/gray.jpg\na.tar!/album/gray.jpg\na.tar!/album/none.jpg\n' |
    ccld-encode -m model --size 64 --max-failures 25 --rejects - -o members
ccld-shards ls members
# However the archive or the list spells their names.
tar --sort=name -cf dotted.tar -C album .
tar -Pcf absolute.tar "$PWD/album/gray.jpg"
encode -q -o dotted dotted.tar
ccld-shards ls dotted
printf 'dotted.tar!/./gray.jpg\ndotted.tar!/photo420.jpg\n' | encode -o dotted
printf 'dotted.tar!/./gray.jpg\ndotted.tar!//photo420.jpg\nabsolute.tar!/%s\n' "$PWD/album/gray.jpg" | encode -o spelled
ccld-shards ls spelled | sed "s:${PWD#/}:HERE:"
# Truncated, damaged and missing archives.
head -c 40000 a.tar >short.tar
head -c 9000 b.TGZ >short.tgz
echo 'not an archive' >text.zip
for archive in short.tar short.tgz text.zip none.tar none.jpg; do encode -o store --max-failures 100 $archive album/gray.jpg; done
ccld-shards stat store | grep -c 'finished *no' || true
# Links have no content of their own.
ln -s ../gray.jpg album/z/soft.jpg
ln album/gray.jpg album/hard.jpg
tar --sort=name -cf linked.tar album
encode -o linked linked.tar
encode -o linked linked.tar!/album/z/soft.jpg
