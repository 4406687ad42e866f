// Package transparency makes a ledger provable to those who do not trust who
// runs it: a Merkle tree over all events, checkpoints that are signed about
// once a second, and receipts that can be checked with nothing but themselves and
// a key.
//
// # The log
//
// A log is a folder of files, laid out as C2SP tlog-tiles has them, so that
// programs that nobody here wrote can check it, and a plain web server can serve
// it:
//
//	checkpoint                     the newest checkpoint
//	checkpoints                    every one that was signed, one after the other (ours)
//	vkey                           the verifier keys, one a line (ours)
//	tile/LEVEL/INDEX[.p/WIDTH]     hashes of 32 bytes, up to 256 of them
//	tile/entries/INDEX[.p/WIDTH]   up to 256 entries, each behind its length in two
//	                               bytes, big-endian
//
// The entry with index n (from 0) is the event with sequence n+1, its bytes as
// they are stored and nothing else: no subject, no header, no time of the server.
// The tree is that of RFC 6962, section 2.1: a leaf's hash is SHA-256(0x00 ‖
// entry), an inner node's SHA-256(0x01 ‖ left ‖ right). INDEX is written in groups
// of three digits, x001/x234/067. Partial tiles are kept until the full one is
// there, so that every checkpoint that was signed can be checked.
//
// A checkpoint is a C2SP signed note (Ed25519) of three lines: origin, which is
// the name of the key too, size, and root in base64. A receipt is a C2SP
// tlog-proof that has the entry as its extra data. testdata holds a small log
// with a known key and a receipt of it as a test vector.
//
// This package reads more strictly than C2SP asks: of everything it accepts one
// spelling, so that no bit of a file can be changed unnoticed. Signatures of
// witnesses may stand beside the log's own.
//
// # Life of a checkpoint
//
// A Sealer follows the ledger. It hashes the events as they come, and writes
// tiles and bundles. When a checkpoint is due, it writes the partial ones too,
// makes them durable, reads everything back, and hashes the entries again into a
// second tree, which must have the same root: what is signed is what can be read.
// Then it moves the fence, a record of the largest tree that may have been signed,
// in a JetStream key-value bucket by compare-and-set. Only then it signs, verifies
// its own signature, puts the checkpoint in place, and adds it to all there were.
//
// Killed anywhere, it begins again with the whole ledger: nothing that it keeps
// is believed but what was signed, and the ledger must have that root at that
// size. If it is shorter, or has another root, or a file that must never change
// has another content, or somebody else has moved the fence, the Sealer halts.
// A log that was signed twice differently would be worthless for ever; one that
// stands still can be restored, because the bundles are a copy of all events.
//
// # Decisions
//
// Hashes, proofs and notes are golang.org/x/mod's, which the Go checksum database
// stands on; checkpoints' text and tlog-proofs are transparency-dev/formats'.
// Tessera was not taken for the log itself: it orders entries within a batch as
// it likes, and here the order is the ledger's. Its fsck is among the tests.
//
// The start reads the whole ledger instead of the folder's own tiles: 3 s for a
// million events, and what the ledger really holds is then what is signed.
//
// Measured on 2 cores and a virtual disk (fsync 150 µs) by go test -run xxx -bench .
// ./eventstore/transparency, entries of 300 bytes: a backlog is sealed at 396,000
// entries/s, which is four to five times what the same machine can append. At 20,000
// votes a second the signer takes 11 % of a core, of which 2.5 % are its own and
// the rest the kernel's for its files. A receipt is made in 0.35 ms and verified in
// 0.06 ms. A folder is hashed and compared at 1.9 million entries/s, 2.2 times
// hashing alone.
//
// Files are written in groups, made durable, and only then get their names. From
// 16 files on, their whole file system is synced once, where the system can do
// that (syncfs of Linux), instead of each file: that doubled the rate and took half
// of the kernel's time. Whoever reads a growing log reads checkpoints before tiles.
package transparency
