# Lists with CRLF and a byte order mark. A name that ends in a carriage return needs NUL.
$SYNTH -q -o model
photo=$GOLDEN/images/gray.jpg
cp "$photo" 'photo one.jpg'
cp "$photo" 'photo two.jpg'
cp "$photo" "$(printf 'odd\r')"
printf '\357\273\277photo one.jpg\r\n\r\nphoto two.jpg\r\n' >list
ccld-encode -q -m model --size 64 -o store <list
ccld-shards ls store
printf 'odd\r\0' | ccld-encode -q -m model --size 64 -0 -o odd-store -
ccld-shards ls odd-store
printf '\377\376p\0\n\0' | ccld-encode -q -m model --size 64 -o store || echo $?
# Rejects go to standard output, and their list can have been edited on Windows.
printf 'nowhere.jpg\r\n' >bad
printf 'photo one.jpg\ngone.jpg\n' >some
ccld-encode -q -m model --size 64 -o store --rejects - --max-failures 100 <some
ccld-encode -q -m model --size 64 -o store --rejects bad --max-failures 100 <some
cat bad
# Captions beside images and in lists, of trainers.
printf '\357\273\277a photo\r\n' >'photo one.txt'
printf '\357\273\277photo one.jpg\r\nphoto two.jpg\tanother\r\n' >pairs
ccld-fit-cloob -q -o run -b 2 --steps 1 --image-size 16 --patch-size 8 --width 64 --layers 1 --text-width 64 \
    --text-layers 1 --vocabulary 600 --embed 32 \
    - <pairs
tr '\0' '\n' <run/pairs.list | sed 's,.*/,,'
ccld-fit-autoencoder -q -o run-kl --size 32 --base-channels 32 --channel-multipliers 1,2 --blocks 1 -b 2 --demo-pictures 0 \
    --steps 1 - <list
tr '\0' '\n' <run-kl/images.list | sed 's,.*/,,'
