// Package domain is the pure core of the vote ledger: what a campaign is, who
// may vote for whom, what an event says, and how events add up to results.
//
// It has no clock, no randomness, no I/O and no context: times, ids and keys
// arrive in commands, and everything here is a function of its arguments.
// The same code decides at intake, counts in the read models and serves as the
// oracle in tests.
//
//	Command ─ Decide(Register, Ballot) ─▶ Event ─ Encode ─▶ bytes in the ledger
//	bytes ─ Decode ─▶ Event ─▶ Register.Apply, Ballot.Evolve, Tally.Apply
//
// # Decisions
//
// The consistency boundary is the ballot: everything one voter did in one
// campaign. Two commands for one ballot are ordered by the ledger; commands
// for different ballots never wait for each other.
//
// Events are CloudEvents 1.0 in structured JSON. What is stored is what is
// hashed and verified, so bytes are never marshalled again. Decoding is
// strict: unknown types, unknown members, repeated members and invalid UTF-8
// are errors, because two readers must not see two different events in the
// same bytes. The standard encoding/json accepts all four, which is why
// go-json-experiment (the code of encoding/json/v2) is used; it also decodes a
// vote's two layers in 1.5 µs where encoding/json takes 3.9 µs (checks of the
// content come on top: go test -bench Decode ./domain).
//
// An audit reads every event, and nearly all are votes and retractions. Those
// are read five times faster when they are byte for byte in the form that
// Encode writes (canonical.go). That is no second opinion: what deviates goes
// to the general decoder, which alone refuses, and the tests hold one against
// the other. Faster still would be names shared between events, but that needs
// a table with a lock; names cut from one copy would keep the campaign's alive in
// every ballot.
//
// Who wins an award is computed, never recorded: from the rule in the
// certification and from the decisions on ties below it. A decision names all
// who tie, winners and others, so that it can be told whether it still fits
// after a correction; a decision that does not fit chooses nobody, because to
// guess what the jury would have said now is worse than to let all win.
//
// The archiving is to annulments what the close is to votes: one that was under
// way and lies above it is void. Otherwise the stream would have to be sealed in
// the same moment in which its last event is recorded.
//
// An amendment can only loosen the rules (later close, more votes, more
// channels). A vote that was decided just before an amendment and recorded
// just after it is therefore valid under both, and a recount needs no
// exception for that race.
package domain
