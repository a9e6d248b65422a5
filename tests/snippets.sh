#!/bin/sh
# snippets: every ```c block of README.md and docs/*.md is compiled, so that what people copy works.
#
#   snippets.sh SOURCE_DIR SHARED_LIBRARY CC CFLAGS
#
# A block with a main is a program: it is compiled, linked and run, and has to succeed. Any other is compiled: as it stands, after an
# include of procpool.h. An HTML comment on a line above a block, with no other block between, says otherwise:
#
#     <!-- c: statements -->   the block is the inside of a function
#     <!-- c: link -->         a program, but not run (it wants input, or goes on for long)
#     <!-- c: inside -->       may include the library's inner headers
#     <!-- c: sketch -->       not compiled
set -eu

source_dir=$1 library=$2 cc=$3 cflags=$4
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
libdir=$(dirname "$library")
count=0 failed=0

awk -v out="$tmp" '
    FNR == 1 { inside = 0; kind = "plain" }
    !inside && /^ *<!-- c: [a-z]+ -->$/ { kind = $3; next }
    !inside && /^ *```c *$/ {
        inside = 1
        match($0, /^ */)
        indent = RLENGTH
        name = sprintf("%s/%03d.c", out, ++n)
        print FILENAME, FNR, kind, name
        if (kind != "inside") print "#include <procpool.h>" > name
        if (kind == "statements") print "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint snippet(void);\nint snippet(void)\n{" > name
        printf "#line %d \"%s\"\n", FNR + 1, FILENAME > name
        next
    }
    inside && /^ *```$/ {
        if (kind == "statements") print "return 0;\n}" > name
        close(name)
        inside = 0
        kind = "plain"
        next
    }
    !inside && /^ *```/ { kind = "plain" }
    inside { print substr($0, indent + 1) > name }
' "$source_dir"/README.md "$source_dir"/docs/*.md >"$tmp/list"

# The flags are a list of words.
# shellcheck disable=SC2086
compile() {
    $cc $cflags -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wno-unused-function -Wno-unused-variable -Wno-unused-parameter -Werror \
        -I "$source_dir/include" "$@"
}

while read -r file line kind name; do
    grep -qE '^int main\(' "$name" && [ "$kind" = plain ] && kind=program
    program=${name%.c}
    case $kind in
    sketch) continue ;;
    plain | statements) compile -c "$name" -o "$program.o" ;;
    inside) compile -iquote "$source_dir/src" -iquote "$source_dir/backends" -c "$name" -o "$program.o" ;;
    link) compile "$name" -o "$program" -L "$libdir" -lprocpool ;;
    program) compile "$name" -o "$program" -L "$libdir" -lprocpool "-Wl,-rpath,$libdir" -lm && "$program" >/dev/null </dev/null ;;
    *) echo "unknown kind $kind" && false ;;
    esac || {
        echo "$file:$line: this block ($kind) does not work"
        failed=$((failed + 1))
    }
    count=$((count + 1))
done <"$tmp/list"

echo "snippets: $((count - failed)) passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$count" -gt 0 ]
