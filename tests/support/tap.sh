# Sourced by test scripts: ok counts tests and prints TAP.
log=${log:-log} # printed when a test fails
number=0 failed=0
ok() { # STATUS NAME
    number=$((number + 1))
    if [ "$1" = 0 ]; then
        echo "ok $number - $2"
    else
        failed=$((failed + 1))
        echo "not ok $number - $2"
        tail -n "${log_lines:-+1}" "$log" | sed 's/^/# /'
    fi
}
