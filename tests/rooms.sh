#!/bin/sh
# rooms: the direction of knowledge between the parts of the library, checked on the sources and on what was compiled.
#
#   rooms.sh SOURCE_DIR SHARED_LIBRARY STATIC_LIBRARY OBJECT...
#
# Each part (a .c with its .h) may include the parts that the table gives it and no other, and may call those and what
# they know in turn; the includes have no cycle. The pure parts call nothing but memory and string functions, so no system call and no clock. One
# part alone has read, write, close and their like. The libraries show the linker the public names and nothing else.
set -eu

source_dir=$1 shared=$2 static=$3
shift 3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
LC_ALL=C
export LC_ALL

# What each part may know. "procpool" is the public header. A new file needs a line here: where does it belong?
# A name with an underscore is a single symbol: init.c defines what pool.h declares of it, since it has to know the worker.
cat >"$tmp/rooms" <<'TABLE'
clock
fd           clock
first
once
memory       fd
buf
slot
cpus
elfid        buf
elfobject    elfid once
callable     elfobject elfid buf once procpool
wire         buf procpool
chan         wire fd first
job          procpool
lane         job
bits
claims       memory fd
transit      memory fd
spin
buffers      bits memory fd
regions      memory
borrow       bits memory
lend         memory fd
pages
slab
flight       job procpool
chunk        job
sched        slot job flight chunk bits
child        fd
lost         child fd
error        procpool
call         pages procpool
functions    callable
peer         backend bits borrow buffers chan first claims functions job pages transit error fd procpool
task         borrow lane slab error fd procpool
lanes        sched task
loop         clock sched lanes peer borrow pages backend bits lost error fd procpool
options      backend table cpus error fd procpool
drive        clock loop buffers slab spin error fd procpool
registry     drive buffers
place        job call procpool
pool         clock drive buffers loop options registry call child cpus error pool_hooks pool_is_initialized procpool
map          pool options place error procpool
submit       clock pool buffers options place call error
stream       clock submit options error
broadcast    pool error
share        pool buffers error procpool
process      pool options error fd
work         clock call callable chan claims transit regions lend spin child pages fd first procpool
worker       work child fd procpool
init         backend table child pool registry worker procpool
backend      child fd
local        clock backend child lost fd
fork         backend child fd local
spawn        backend child local
forkserver   backend child lost memory error fd local buf
table        backend fork spawn forkserver
TABLE
pure='spin buf wire slot job lane flight chunk sched'

# A part in several files is called after the first: forkserver_serve.c is of forkserver.
part_of() {
    basename "$1" | sed 's/[._].*//'
}

# ---- who includes whom, and who calls whom: lines of "part other how" ----

for file in "$source_dir"/src/*.[ch] "$source_dir"/backends/*.[ch]; do
    part=$(part_of "$file")
    sed -nE "s|^[ \t]*#[ \t]*include[ \t]*\"([^\"]*/)?([a-z]+)[a-z_]*\.h\".*|$part \2 includes|p
             s|^[ \t]*#[ \t]*include[ \t]*<procpool\.h>.*|$part procpool includes|p" "$file"
done >"$tmp/uses"

for object in "$@"; do
    part=$(part_of "$object")
    nm -g --defined-only "$object" | awk -v part="$part" '{ print part, $3 }' >>"$tmp/defined"
    nm -u "$object" | awk -v part="$part" '{ print part, $2 }' >>"$tmp/undefined"
done
awk 'NR == FNR { home[$2] = $1; next } $2 in home && home[$2] != $1 { print $1, home[$2], "calls", $2 }' \
    "$tmp/defined" "$tmp/undefined" >>"$tmp/uses"

{
    awk '
        function reaches(from, to,    i, n, next_parts) {
            if ((from, to) in may) return 1
            if (seen[from]++) return 0
            n = split(list[from], next_parts, " ")
            for (i = 1; i <= n; i++) if (reaches(next_parts[i], to)) return 1
            return 0
        }
        NR == FNR { list[$1] = ""; for (i = 2; i <= NF; i++) { may[$1, $i] = 1; list[$1] = list[$1] " " $i }; next }
        $1 == $2 { next }
        !($1 in list) { if (!told[$1]++) print $1 ": not in the table of rooms.sh"; next }
        $3 == "includes" && !(($1, $2) in may) { print $1 " includes " $2 ", which it must not know" }
        $3 == "calls" { split("", seen); if (!(($1, $4) in may) && !reaches($1, $2)) print $1 " calls " $4 " of " $2 ", which it must not know" }
    ' "$tmp/rooms" "$tmp/uses" | sort -u
    # A declaration may come from a higher contract (backend_table), so cycles are looked for among the includes.
    awk '$3 == "includes" && $1 != $2 { print $1, $2 }' "$tmp/uses" | sort -u | tsort 2>&1 >/dev/null |
        awk '/loop:$/ { printf "%sa cycle of includes:", (NR > 1 ? "\n" : ""); next } { printf " %s", $2 } END { if (NR) print "" }'
    # What only the public header is for.
    grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$source_dir"/examples/*.c "$source_dir"/benchmarks/*.c \
        "$source_dir"/tests/conformance*.c "$source_dir"/tests/smoke.c "$source_dir"/tests/forks.c 2>/dev/null |
        while IFS=: read -r file line text; do
            header=$(expr "$text" : '[^"]*"\([^"]*\)"')
            if [ "$header" != procpool.h ] && { [ "$header" != "${header##*/}" ] || [ ! -f "${file%/*}/$header" ]; }; then
                echo "$file:$line: includes $header of the library's inside"
            fi
        done

    # ---- what the pure parts, and all but fd, may not call ----

    # Memory, strings, assertions; and what compilers and sanitizers put in.
    allowed='^(mem[a-z]+|bcmp|str[a-z]+|malloc|calloc|realloc|free|abort|__assert(_fail)?|__[a-z]+_chk|__isoc99_.*|_GLOBAL_OFFSET_TABLE_'
    allowed="$allowed"'|__(asan|ubsan|tsan|sanitizer|sancov)_.*|__stack_chk_fail|__gcov.*|__llvm.*)$'
    awk -v pure=" $pure " -v allowed="$allowed" '
        NR == FNR { home[$2] = $1; next }
        index(pure, " " $1 " ") && !($2 in home) && $2 !~ allowed { print $1 ": is pure, but calls " $2 }
    ' "$tmp/defined" "$tmp/undefined"
    awk '$1 != "fd" && $2 ~ /^(__)?(read|write|readv|writev|pread|pwrite|close|pipe|pipe2|dup|dup2|dup3)(64)?(_chk)?$/ {
        print $1 ": calls " $2 ", which is for fd alone" }' "$tmp/undefined"

    # ---- what the linker sees ----

    sed -nE 's/.*POOL_API\(([a-z_]+)\).*/procpool_\1/p' "$source_dir/include/procpool.h" | grep -v '^procpool_name$' | sort >"$tmp/public"
    nm -D --defined-only "$shared" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$tmp/shared"
    nm -g --defined-only "$static" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort >"$tmp/static"
    for kind in shared static; do
        comm -3 "$tmp/public" "$tmp/$kind" | sed -e 's/^\t\(.*\)/\1: not public, but visible/' -e t -e 's/$/: public, but missing/' \
            -e t | sed "s/^/$kind library: /"
    done
} >"$tmp/faults"

if [ -s "$tmp/faults" ]; then
    cat "$tmp/faults"
    echo "0 passed, $(wc -l <"$tmp/faults") failed"
    exit 1
fi
echo "$(wc -l <"$tmp/uses") uses among $# parts, $(wc -l <"$tmp/public") public names: as they should be"
