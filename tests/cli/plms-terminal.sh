# Binary data is not written to a terminal.
command -v script >/dev/null || { echo "needs script(1)"; exit 77; }
for program in "ccld-plms cat" "ccld-grid $GOLDEN/images/rgb.png"; do
    status=0
    script -q -e -c "$program" /dev/null </dev/null >typescript || status=$?
    echo $status
    tr -d '\r' <typescript
done
