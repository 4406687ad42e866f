// Package eventstore keeps an append-only ledger of events on NATS JetStream.
//
// A ledger is one stream. Its unit of consistency is the subject: an append
// names the sequence of the last event that its author knows of on that
// subject, and is refused when another event came between. The package moves
// subjects and bytes; what they mean is the caller's affair.
//
// # Life of an append
//
// Append puts a request into a bounded queue (ErrBusy when it is full). The
// committer takes what is there and commits it: as plain publishes or as one
// atomic batch. A commit settles each of its requests, however many attempts
// that takes. After each attempt it reads the control subject once for all that
// is recorded, and answers. Callers may leave at any time; the commit goes on for
// the others.
//
// # Group commit
//
// With fsync always, a single server fsyncs each plain publish by itself:
// about 220 µs each, 4 thousand a second however pipelined. An atomic batch
// (ADR-50) is one commit: a flat cost plus about 7 µs an event. The flat cost is
// 2 to 4 ms when the server stages its batches on the disk, because it makes a
// folder with half a dozen fsyncs for each batch, and 0.8 ms when the stream's
// folder "batches" is a link to memory. Therefore:
//
//   - There is no timer. What is alone goes at once. While a commit is under way
//     the next one gathers.
//   - Fewer than 10 events go as plain publishes, for they cost less than a batch.
//   - A second commit begins beside the first only when 500 events wait, or when
//     the first has to try again: one batch of 256 takes half as long as four of 64.
//   - A commit counts as under way until its callers are answered, and the
//     committer yields the processor before it takes: callers that were answered
//     together come back together. Without this, 256 callers fall apart into two
//     groups that take turns, which cost a third of the speed.
//
// Measured on 2 cores and a virtual disk (fsync 160 µs), events of 300 bytes,
// server and callers in one process, by
//
//	go test -run xxx -bench . -benchtime=12x ./eventstore
//
// as medians; "bare" is a program that does nothing but publish batches of 1000
// with 8 under way, on the same server in the same iteration:
//
//	           batches staged on disk        batches staged in memory
//	callers    events/s  of bare  × plain    events/s  of bare  × plain
//	     64      11,400     0.13      1.8      30,600     0.29      7.6
//	    256      25,900     0.38      6.9      53,400     0.63     20
//	   1024      52,200     0.78     14        90,000     0.78     15
//	   4096      59,700     0.82     20        98,700     0.73     16
//
// Between runs the ratios of 256 callers varied from 0.33 to 0.46 on disk and
// from 0.58 to 0.72 in memory (median 0.62). They cannot come near 1, because a batch of 256
// spreads the flat cost over 256 events and not over 1000; the package's own code
// takes 6 % of the processor time, the server nearly all the rest. One caller on
// an idle server waits for 1.5 fsyncs (250 µs). Three servers that replicate to
// each other, all in one process on one disk: 1,300 events/s by one caller,
// 51,500 by 256 (0.60 of bare), 64,900 by 4096 (0.72). Replay: 350,000 events/s,
// 1.1 of the client library's ordered consumer.
//
// # Conflicts
//
// One wrong expectation rejects a whole batch, with code 10071 or, mostly on
// clusters, 10164, and the server does not say which one it was. One request for
// the last sequences of all its subjects shows every mismatch; the leader then
// tells what came first after each expectation, those appends are answered, and
// the rest is sent again. When nothing is to be seen, another append is still in
// flight: pause at random, then halve, down to plain publishes, whose conflicts
// are definite. A batch holds a subject only once, because the server accepts a
// second event of a batch on it unchecked.
//
// # Unknown outcomes
//
// An attempt without an answer leaves it open whether its events are recorded.
// The first event after the expectation decides: the same bytes are the event
// itself, others are a conflict. That there is none proves nothing, for the
// attempt may still be on its way; so the same bytes are sent with the same
// expectation again, which the ledger can hold only once. What cannot be cleared
// up within 20 seconds is answered by ErrOutcomeUnknown, never by "not recorded".
//
// An event is known by its bytes, which must be unique (they hold an event id).
// Nats-Msg-Id is not used: its window is short and in memory, and servers with one
// replica and with three check it in a different order. Headers are transport:
// they are not read back, and whoever may publish can imitate those that the
// server adds, so only the last value of each is believed.
//
// One case is left. On a single server, an event that is found by reading may
// have been written by a commit that broke off before its fsync. It is durable
// with the server's next fsync of that file: with the next append, or after two
// minutes at the latest. Only a crash of the server followed by a power loss
// within that time could take it away.
//
// # The fence
//
// The control subject's events govern all others: whatever is recorded above a
// closing event is void. An append is therefore answered only after a read of the
// control subject that shows what lies below it. The read asks, in one request,
// for the last events of the control subject and of the newest event's subject,
// and counts only when the answer holds that event: a replica that has it has
// everything below it. A read from the leader would not be enough, because a
// leader that was deposed without knowing it answers too, and lacks what the new
// one has recorded. It would also fail while there is no leader, and it is no
// cheaper: 40 to 50 µs against 30 to 40.
//
// The same goes for Read: what a stale leader or a replica has is true, for a
// recorded event never changes; what it lacks may exist all the same. An append
// is always decided by a leader that a majority follows.
package eventstore
