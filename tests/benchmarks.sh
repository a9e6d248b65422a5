#!/bin/sh
# Every benchmark in the folder $1 runs to its end with --quick and prints rows. What they measure is not looked at: that
# would be a test of the machine.
folder=$1
failed=0

for program in "$folder"/bench_*; do
    [ -f "$program" ] && [ -x "$program" ] || continue
    rows=$("$program" --quick --json) || { echo "${program##*/} failed"; failed=1; }
    case $rows in
    *'"cost": {"median": '*) ;;
    *) echo "${program##*/} printed no row"; failed=1 ;;
    esac
    if printf '%s\n' "$rows" | grep -v '^{"benchmark": ".*}$'; then
        echo "${program##*/} printed what is no row"
        failed=1
    fi
done
exit $failed
