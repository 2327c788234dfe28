# Sourced by test scripts: ok and report count tests and print TAP.
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
report() { # NAME OFFENDERS: passes if there are none
    number=$((number + 1))
    if [ -z "$2" ]; then
        echo "ok $number - $1"
    else
        failed=$((failed + 1))
        echo "not ok $number - $1"
        echo "$2" | sed 's/^/# /'
    fi
}
