// Package report writes what leaves the ledger for people: exports for
// spreadsheets, the protocol of a campaign, awards and letters of gratitude.
//
// # Decisions
//
// An export of votes is all votes, each with what became of it, which stands
// only in later events. So the ledger is read twice: first everything is counted,
// and what ended each vote is noted in 8 bytes an event; then a row for each vote
// is written and forgotten. Besides those bytes the memory is that of the Tally,
// which has a cell for each specialist, channel and hour with votes. Measured with
// a million votes of which a tenth were ended: the live heap grows by 12 MiB for
// CSV (TestMillionVotes), and by 33 MiB for a workbook; where nearly every vote
// had an hour of its own, by 35 MiB for CSV.
//
// Both readings end at the same event, which is fixed before the first one: the
// ledger may grow meanwhile, an export is as of one event.
//
// What was written is counted row by row, and compared with the Tally for every
// specialist. A difference is ErrTotals, and the caller throws away what was
// written: an export is whole or it is none.
//
// Times are in the campaign's time zone with their offset. A workbook's dates
// have no offset, so that the local time stands in a date cell, where
// spreadsheets can sort and group it, and the offset in the next column, which
// keeps the two 03:30 of an autumn night apart.
//
// JSON is one object with a row on each line, rather than a file of lines: what
// was cut off on its way is then no JSON, and a program notices.
//
// A protocol, and awards by the certified rule, count certified results again and
// compare the digest, so that nothing here can repeat what the ledger does not say.
//
// Excelize's stream writer makes the workbooks: it keeps rows in a temporary
// file, about 1 KB each, and a workbook is written when all is known.
package report
