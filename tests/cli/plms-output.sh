$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 1"
status=0; $plms -n 2 a >/dev/full || status=$?; echo $status
status=0; $plms -n 2 a >&- || status=$?; echo $status
# The reader has closed the pipe: status 1 without a message.
mkfifo pipe
exec 3<>pipe 4>pipe 3>&-
status=0; $plms a >&4 || status=$?; echo $status
exec 4>&-
# Each image is written at once: the first can be read before the others are finished.
$plms a >one
$plms -n 100000 a | head -c $(wc -c <one) | cmp - one
# A summary unless -q; with -v, the files of the model.
ccld-plms -m model --size 64 --steps 1 -n 2 a >stream
ccld-plms -m model --size 64 --steps 1 --autoencoder-scale 4 -v a >stream
