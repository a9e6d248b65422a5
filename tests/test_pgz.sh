#!/bin/bash
# Hostile test of examples/pgz under every start method: sizes around the block size, every way in and out, and every way
# that writing can fail. One line for each check; the exit status says whether all passed.
# usage: test_pgz.sh PATH_OF_PGZ
set -u

pgz=$(realpath "${1:?usage: test_pgz.sh PATH_OF_PGZ}")
block=$((2 << 20)) # as BLOCK_BYTES in pgz.c
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
cd "$scratch" || exit 1
failures=0

# check WHAT COMMAND...: the command succeeds.
check() {
    local what=$1
    shift
    if "$@"; then
        echo "ok      $method: $what"
    else
        echo "FAILED  $method: $what"
        failures=$((failures + 1))
    fi
}

run_pgz() {
    timeout 120 "$pgz" -b "$method" "$@"
}

# Fails as it should: exit status 1, a message that begins with "pgz: " and holds the text given first.
refuses() {
    local text=$1 status
    shift
    "$@" 2>message
    status=$?
    [ $status -eq 1 ] && grep -q "^pgz: .*$text" message && [ "$(wc -l <message)" -eq 1 ] && return
    echo "status $status, message: $(cat message)"
    return 1
}

only_files() {
    [ "$(find . -mindepth 1 ! -name message -printf '%P\n' | sort | xargs)" = "$*" ] && return
    ls -l
    return 1
}

same() {
    gzip -t "$1" && gzip -dc "$1" | cmp - "$2"
}

# Bytes that compress, but not to nothing: decimal numbers.
make_input() {
    seq 1 99999999 2>/dev/null | head -c "$1" >"$2"
}

# new_dir: an empty directory for the next checks.
new_dir() {
    cd "$scratch" && rm -rf work && mkdir work && cd work || exit 1
}

sizes_survive() {
    local size
    for size in 0 1 $((block - 1)) $block $((block + 1)) $((9 * block + 7)); do
        new_dir
        make_input "$size" in
        run_pgz in && check "$size bytes from file to file" same in.gz in
        check "$size bytes leave nothing else behind" only_files in in.gz
        run_pgz -c in >c.gz && check "$size bytes from file to stdout" same c.gz in
        run_pgz <in >p.gz && check "$size bytes from stdin to stdout" same p.gz in
        # shellcheck disable=SC2002
        cat in | run_pgz -j 1 -o o.gz - && check "$size bytes from a pipe to -o" same o.gz in
    done
}

rounds_survive() { # one worker: rounds of 8 blocks
    new_dir
    make_input $((16 * block)) in
    run_pgz -j 1 in && check 'exactly two rounds' same in.gz in
    make_input $((16 * block + 1)) in
    run_pgz -j 1 -f in && check 'two rounds and a byte, over an existing file' same in.gz in
}

existing_output_is_kept() {
    new_dir
    make_input 1000 in
    echo precious >in.gz
    check 'an existing output is not overwritten' refuses exists run_pgz in
    check 'its content is kept' grep -qx precious in.gz
    check 'nothing is left behind' only_files in in.gz
    run_pgz -f in && check '-f overwrites it' same in.gz in
    chmod 640 in
    run_pgz -f in && check 'the output has the mode of the input' [ "$(stat -c %a in.gz)" = 640 ]
}

bad_input_is_refused() {
    new_dir
    check 'a missing input' refuses 'No such file' run_pgz missing
    mkdir directory
    check 'a directory as input' refuses 'Is a directory' run_pgz directory
    check 'a directory as output' refuses 'Is a directory' run_pgz -o directory /dev/null
    check 'an output in a missing directory' refuses 'No such file' run_pgz -o missing/out.gz /dev/null
    if [ "$(id -u)" -ne 0 ]; then
        : >secret && chmod 0 secret
        check 'an unreadable input' refuses 'Permission denied' run_pgz secret
        rm -f secret
    fi
    # Reading the first page of one's own memory fails with EIO, in the middle as it were.
    check 'an input whose reading fails' refuses 'Input/output error' run_pgz -o out.gz /proc/self/mem
    check 'stdin that is closed' refuses 'Bad file descriptor' run_pgz -o out.gz - <&-
    check 'nothing is left behind' only_files directory
}

bad_output_is_reported() {
    new_dir
    make_input $((3 * block)) in
    check 'a full disk behind -o' refuses 'No space left' run_pgz -o /dev/full in
    check 'a device stays a device' [ -c /dev/full ]
    check 'a full disk behind stdout' refuses 'No space left' eval 'run_pgz -c in >/dev/full'
    make_input 10 small
    check 'a full disk that shows when closing' refuses 'No space left' eval 'run_pgz -c small >/dev/full'
    check 'stdout that is closed' refuses 'Bad file descriptor' eval 'run_pgz -c in >&-'
    check 'a broken pipe' refuses 'Broken pipe' eval 'set -o pipefail; run_pgz -c in | true'
    check 'a file size limit' refuses 'File too large' eval '(trap "" XFSZ; ulimit -f 100; run_pgz in)'
    check 'nothing is left behind' only_files in small
}

full_disk_leaves_nothing() {
    new_dir
    mkdir disk
    mount -t tmpfs -o size=1m none disk 2>/dev/null || return
    make_input $((8 * block)) in
    check 'a full disk behind a file' refuses 'No space left' run_pgz -o disk/out.gz in
    check 'it is empty afterwards' [ -z "$(ls -A disk)" ]
    umount disk
}

bad_usage_is_refused() {
    new_dir
    : >in
    check 'an unknown start method' refuses nonsense "$pgz" -b nonsense in
    check 'two inputs' eval '! run_pgz in in 2>/dev/null'
    check 'a nonsensical number of workers' eval '! run_pgz -j none in 2>/dev/null'
    check 'an unknown option' eval '! run_pgz -x in 2>/dev/null'
    check 'nothing is left behind' only_files in
}

# Stopped in the middle: the input is a pipe that stays open after one round's worth of bytes.
signals_leave_nothing() {
    local signal status
    for signal in INT TERM HUP; do
        new_dir
        make_input $((9 * block)) in
        mkfifo fifo
        (trap - INT TERM HUP; exec timeout --foreground 60 env --default-signal=INT "$pgz" -b "$method" -j 1 -o out.gz fifo) &
        local job=$! tries=0 victim=
        exec 9>fifo
        cat in >&9
        while ! ls out.gz.* >/dev/null 2>&1 && [ $tries -lt 500 ]; do
            sleep 0.02
            tries=$((tries + 1))
        done
        victim=$(pgrep -P "$job" | head -n 1)
        kill -"$signal" "${victim:-$job}"
        wait "$job"
        status=$?
        exec 9>&-
        check "SIG$signal ends it" [ $status -ge 128 ]
        rm -f fifo
        check "SIG$signal leaves nothing behind" only_files in
    done
}

ratio_is_that_of_gzip() {
    local cc1 ours theirs
    new_dir
    cc1=$(gcc -print-prog-name=cc1)
    [ -f "$cc1" ] || cc1=$(realpath /bin/bash)
    head -c $((4 * block)) /dev/zero >zeros
    make_input $((4 * block)) numbers
    for file in "$cc1" zeros numbers; do
        ours=$(run_pgz -c "$file" | wc -c)
        theirs=$(gzip -6 -c "$file" | wc -c)
        check "ratio of $(basename "$file") within 2% of gzip -6 ($ours and $theirs bytes)" \
            [ $((ours * 100)) -le $((theirs * 102)) ]
    done
    run_pgz -c "$cc1" >cc1.gz
    check "$cc1 survives" same cc1.gz "$cc1"
}

terminal_is_respected() {
    new_dir
    command -v script >/dev/null || return
    make_input 1000000 in
    script -qec "$pgz -b $method -c in" /dev/null >typescript </dev/null
    check 'compressed data is kept off a terminal' grep -q 'terminal' typescript
    script -qec "$pgz -b $method in" /dev/null >typescript </dev/null
    check 'a terminal gets a progress bar' grep -q '100%' typescript
    check 'what it left behind is the output' same in.gz in
    run_pgz -f in 2>message
    check 'no terminal, no progress bar' [ ! -s message ]
}

for method in fork spawn forkserver; do
    sizes_survive
    rounds_survive
    existing_output_is_kept
    bad_input_is_refused
    bad_output_is_reported
    full_disk_leaves_nothing
    bad_usage_is_refused
    signals_leave_nothing
    ratio_is_that_of_gzip
    terminal_is_respected
done
cd / || exit 1
echo "$failures checks failed"
[ "$failures" -eq 0 ]
