# Training on a folder, a tar and a shuffled list of its members is training on the same list of files, resumed or not.
shapes=${SYNTH%/*}/shapes
$shapes -q -o images -n 24 --size 32 --pairs pairs.tsv
mkdir images/.thumbs
cp images/000000.png images/.thumbs
echo 'these are shapes' >images/README.md
tar --sort=name -cf images.tar images
small="-q --image-size 32 --patch-size 8 --width 64 --layers 1 --text-width 64 --text-layers 1 --vocabulary 600 --embed 32"
train="ccld-fit-cloob $small --threads 1 -b 4 --warmup 0 --seed 5 --lr-schedule constant"
same() { # RUN
    cmp "$1/latest/raw.safetensors" list/latest/raw.safetensors
}
$train -o list --steps 8 <pairs.tsv
$train -o folder --steps 8 images
same folder
$train -o tar --steps 3 images.tar
mv images hidden
$train --resume tar --steps 8
same tar
# With its members as tar -C writes them, and a caption in a file beside each.
while IFS="$(printf '\t')" read -r file caption; do echo "$caption" >"hidden/$(basename "$file" .png).txt"; done <pairs.tsv
tar --sort=name -cf dotted.tar -C hidden .
$train -o dotted --steps 3 dotted.tar
$train --resume dotted --steps 8
same dotted
tr '\0' '\n' <dotted/pairs.list | sed 's:.*/dotted.tar:dotted.tar:' | head -n 2
# Members by name, with captions of their own, in another order; here the order of the list is the data's.
sed 's:.*/:images.tar!/images/:' pairs.tsv | tac >names
tac names >reversed
$train -o members --steps 2 <names
$train -o again --steps 8 <reversed
same again
tr '\0' '\n' <members/pairs.list | sed 's:.*/images.tar:images.tar:' | head -n 2

echo captions of JSON files and classes
mkdir data
for i in 0 1 2 3 4 5; do
    cp hidden/00000$i.png data/$i.img.png
    echo "{\"caption\": \"shape $i\", \"long\": \" a long text about shape $i \"}" >data/$i.json
done
rm data/4.json
echo a class >data/4.cls
rm data/5.json
tar --sort=name -cf data.tar data
for key in '' '--caption-key long'; do
    ccld-fit-cloob $small --threads 1 -b 2 --warmup 0 -o "json$key" --steps 1 $key data.tar
    tr '\0' '\n' <"json$key/pairs.list" | sed 's:.*/data.tar:data.tar:'
done

echo damaged archives
head -c 20000 images.tar >short.tar
gzip -k data.tar
mkdir empty
ccld-fit-cloob $small -o pairs pairs.tsv || echo status $?
for input in short.tar data.tar.gz nowhere.tar empty; do
    ccld-fit-autoencoder -q -o ae --base-channels 32 --channel-multipliers 1,1 --blocks 1 --latent-channels 2 --size 16 --steps 1 \
        -b 2 $input || echo status $?
done
ccld-fit-autoencoder -q -o ae --base-channels 32 --channel-multipliers 1,1 --blocks 1 --latent-channels 2 --size 16 --threads 1 \
    --steps 2 -b 2 --flip images.tar data.tar hidden
tr '\0' '\n' <ae/images.list | sed -n 's:/[^/]*$::; s:.*/fit-archives/::p' | uniq -c | sed 's/^ *//'
ln -s 0.jpg hidden/soft.jpg
tar cf linked.tar hidden
ccld-fit-autoencoder -q -o linked --base-channels 32 --channel-multipliers 1,1 --blocks 1 --latent-channels 2 --size 16 --steps 1 -b 1 \
    linked.tar
tr '\0' '\n' <linked/images.list | grep -c 'tar!'
