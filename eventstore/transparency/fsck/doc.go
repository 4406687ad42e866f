// Package fsck holds our logs against programs that we did not write: Tessera's
// fsck, and the proof verification of transparency-dev/merkle and
// transparency-dev/formats.
//
// It is a module of its own, because Tessera brings OpenTelemetry, klog and a
// dozen more modules along, none of which belongs into what the ledger is built
// of. `make test` runs it.
package fsck
