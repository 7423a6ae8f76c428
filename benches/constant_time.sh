#!/bin/sh
# Shows that time tells nothing: Welch's t of benches/constant_time, and then that of a control build of the same
# code with faults put in on purpose, which must stand out. Takes the number of samples, by default a million, and words
# of the lines that are wanted, by default all.
set -eu
cd "$(dirname "$0")/.."
bench() {
    echo "== $1"
    shift
    cargo bench --quiet --no-default-features --bench constant_time "$@"
}
bench "as it is" -- "$@"
RUSTFLAGS="--cfg countersign_leaky" bench "control: leaks on purpose" --target-dir target/leaky -- "$@"
