#!/bin/sh
# demo: compress one large real file with pgz under each start method, verify what came out, print a table.
# usage: demo.sh [BUILD_DIR]
set -eu

pgz=${1:-build}/examples/pgz
workers=${POOL_WORKERS:-$(getconf _NPROCESSORS_ONLN)}

fail() {
    echo "demo: $*" >&2
    exit 1
}

# The compiler proper: tens of megabytes, wherever there is gcc. Else the largest of the installed programs.
large_file() {
    file=$(gcc -print-prog-name=cc1 2>/dev/null) || file=
    [ -f "$file" ] || file=$(find -L /usr/bin /usr/lib -type f -size +4M -exec ls -S {} + 2>/dev/null | head -n 1)
    [ -f "$file" ] || fail 'no large file found to compress'
    echo "$file"
}

now_ns() {
    date +%s%N
}

# row NAME WORKERS START_NS END_NS
row() {
    awk -v name="$1" -v workers="$2" -v ns="$(($4 - $3))" -v in_bytes="$in_bytes" -v out_bytes="$(wc -c <"$out")" '
        BEGIN {
            seconds = ns / 1e9
            printf "%-12s %7.2f s %8.1f MB/s %7.3f %8d\n", name, seconds, in_bytes / 1e6 / seconds, in_bytes / out_bytes, workers
        }'
}

[ -x "$pgz" ] || fail "$pgz is not there: build first (pgz needs zlib)"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
in=$(large_file)
out=$scratch/out.gz
in_bytes=$(wc -c <"$in")
cat "$in" >/dev/null # from here on it is in the page cache

echo "$in, $in_bytes bytes:"
printf '%-12s %9s %13s %7s %8s\n' method time speed ratio workers
for method in fork spawn forkserver; do
    start=$(now_ns)
    "$pgz" -f -b "$method" -j "$workers" -o "$out" "$in"
    end=$(now_ns)
    gzip -t "$out" || fail "$method: gzip -t finds fault with the output"
    gzip -dc "$out" | cmp - "$in" || fail "$method: the output does not decompress to the input"
    row "$method" "$workers" "$start" "$end"
done

start=$(now_ns)
gzip -6 -c "$in" >"$out"
end=$(now_ns)
row 'gzip -6' 1 "$start" "$end"
