#!/bin/sh
# peer_mpi.sh MPIEXEC PEER_MPI QUESTION: the farm with as many workers as the question wants, and a rank that hands out the work.
set -eu
mpiexec=$1 program=$2 question=$3
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1

farm() {
    workers=$1
    PEER_BEGAN_NS=$(date +%s%N) "$mpiexec" -n $((workers + 1)) "$program" "$question"
}

case $question in
    start) farm 2 && farm 16 ;;
    roundtrip | echo) farm 1 ;;
    *) farm 2 ;;
esac
