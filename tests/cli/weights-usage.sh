try() {
    status=0
    ccld-weights "$@" || status=$?
    echo $status
}
cp "$GOLDEN/checkpoints/bare.pth" a.pth
try
try list a.pth
try ls
try ls a.pth a.pth
try convert a.pth
try ls a.pth -o b
try convert a.pth -o b --dtype f8
try convert a.pth -o b --as zip
try convert a.pth -o b --weights best
try convert a.pth -o b --names mine
try convert a.pth -o nowhere/b
[ ! -e b ]
