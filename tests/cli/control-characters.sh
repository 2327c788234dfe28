# Names with control characters are escaped in messages and listings.
$SYNTH -q -o model
photo=$GOLDEN/images/gray.jpg
odd=$(printf 'a\033[31m\tb\nc\\d\302\233.jpg')
cp "$photo" "$odd"
ccld-encode -q -m model --size 64 -o "$(printf 'st\rore')" "$odd"
ccld-shards ls "$(printf 'st\rore')"
ccld-shards ls "$(printf 'st\rore')" | wc -l
ccld-shards stat "$(printf 'st\rore')" "$(printf 'st\rore')/" || echo $?
cp -r "$(printf 'st\rore')" other
ccld-shards stat "$(printf 'st\rore')" other | grep -a '^store'
ccld-encode -q -m model --size 64 -o "$(printf 'no\033where/store')" "$(printf 'gone\033[2J\r')" || echo $?
ccld-grid "$(printf 'gone\n\033')" || echo $?
ccld-plms --model "$(printf 'gone\177')" x >stream || echo $?
ccld-plms "$(printf -- '--\033cfg')" x >stream || echo $?
header=$(printf '{"x\\\\y\\u001b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"k\\n":"v\\u0007"}}      ')
printf "\\$(printf %o ${#header})\\0\\0\\0\\0\\0\\0\\0%s\\0\\0\\0\\0" "$header" >odd.safetensors
ccld-weights -q ls odd.safetensors
