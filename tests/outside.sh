#!/bin/sh
# outside: the installed library as other people's programs meet it, in every way that README.md offers.
#
#   outside.sh SOURCE_DIR BUILD_DIR CC CFLAGS OBJECT...
#
# Each way builds tests/outside, which has functions of its own for every name that the library uses inside, and runs it.
set -eu

source_dir=$1 build_dir=$2 cc=$3 cflags=$4
shift 4
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0

step() {
    echo "-- $*"
}

# quietly COMMAND...: what it prints matters only when it fails.
quietly() {
    "$@" >"$tmp/log" 2>&1 || {
        cat "$tmp/log"
        echo "outside: $* failed"
        exit 1
    }
}

run() {
    "$@" || {
        echo "outside: $* failed"
        exit 1
    }
    passed=$((passed + 1))
}

cp -r "$source_dir/tests/outside" "$tmp/project"
nm -g --defined-only "$@" | awk 'NF == 3 && $3 !~ /^(procpool_|__)/ { print "OWN_NAME(" $3 ")" }' | sort -u >"$tmp/project/own_names.h"
step "$(wc -l <"$tmp/project/own_names.h") inner names"
[ -s "$tmp/project/own_names.h" ]

step "install below DESTDIR"
quietly env DESTDIR="$tmp/dest" cmake --install "$build_dir" --prefix /usr
for file in procpool.h libprocpool.so libprocpool.a procpool.pc procpool-config.cmake; do
    [ -n "$(find "$tmp/dest/usr" -name "$file")" ] || {
        echo "outside: $file was not installed"
        exit 1
    }
done

step "install, and move it"
quietly cmake --install "$build_dir" --prefix "$tmp/first"
mv "$tmp/first" "$tmp/moved"
PKG_CONFIG_PATH=$(dirname "$(find "$tmp/moved" -name procpool.pc)")
export PKG_CONFIG_PATH
libdir=$(dirname "$PKG_CONFIG_PATH")

cd "$tmp/project"
step "pkg-config, shared"
# The flags are lists of words.
# shellcheck disable=SC2046,SC2086
$cc $cflags main.c names.c -o pkg_shared $(pkg-config --cflags --libs procpool) "-Wl,-rpath,$libdir"
run ./pkg_shared

step "pkg-config, static"
# shellcheck disable=SC2046,SC2086
$cc $cflags main.c names.c -o pkg_static $(pkg-config --cflags procpool) \
    $(pkg-config --static --libs procpool | sed 's/-lprocpool/-l:libprocpool.a/')
run ./pkg_static

step "find_package, shared and static"
quietly cmake -S . -B found "-DCMAKE_PREFIX_PATH=$tmp/moved" "-DCMAKE_C_COMPILER=$cc" "-DCMAKE_C_FLAGS=$cflags"
quietly cmake --build found
run found/with_shared
run found/with_static

step "add_subdirectory, shared and static"
quietly cmake -S . -B part "-DPROCPOOL_SOURCE_DIR=$source_dir" "-DCMAKE_C_COMPILER=$cc" "-DCMAKE_C_FLAGS=$cflags"
quietly cmake --build part
run part/with_shared
run part/with_static
echo "outside: $passed programs linked and ran"
