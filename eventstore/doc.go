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
// that takes. After each attempt it makes sure which control events govern all
// that is recorded, and answers. Callers may leave at any time; the commit goes on for
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
//     committer yields the processor before it takes, for up to a sixteenth of
//     that commit's time: callers that were answered together come back together.
//     Without this, 256 callers fall apart into two groups that take turns, which
//     cost a third of the speed.
//   - Batches under way are sent one after the other. Sent side by side they would
//     all be complete at once, and the server idle while their callers are answered.
//   - The control subject is read once a run of events, not once a commit (see
//     The fence): the server answers no read while it writes a batch.
//
// Measured on 2 cores and a virtual disk (fsync 150 µs), events of 300 bytes,
// server and callers in one process, by
//
//	go test -run xxx -bench . -benchtime=12x ./eventstore
//
// as medians on the same server in the same iteration. "Bare" is a program that
// does nothing but publish batches of 1000 with 8 or 9 under way; "alike" is the
// same program with as many events under way as there are callers; "plain" are
// pipelined publishes:
//
//	           batches staged on disk           batches staged in memory
//	callers    events/s  alike  bare  × plain   events/s  alike  bare  × plain
//	     64      19,800   0.92  0.19      2.8     52,200   0.84  0.38      7.2
//	    256      49,200   0.83  0.46      6.9     92,100   0.84  0.67     13
//	   1024      83,700   0.83  0.87     11      102,100   0.83  0.80     15
//	   4096      88,600   0.84  0.84     12      113,900   0.86  0.89     17
//
// Few callers cannot come near to bare, because a batch of 256 spreads the flat
// cost over 256 events and not over 1000: the bare program with 256 under way
// gets 0.79 of itself with 1000. Where the rest goes, for 256 callers, in µs of
// a cycle of 2,300: 400 publishing, 1,600 until the server answers (of them 570
// flat and about 4 an event), 90 answering the callers, and the rest until they
// are back. For a thousand and more callers the server's stream is at work 82 %
// of the time with the bare program and 64 % here: on two cores it has to wait
// for a processor behind the callers that were woken. The package's own code takes
// 9 % of the processor time, the server nearly all the rest.
//
// One caller on an idle server waits for 1.3 fsyncs (183 µs). Three servers that
// replicate to each other, all in one process on one disk: 1,800 events/s by one
// caller, 64,900 by 256 (0.61 of bare), 53,500 by 4096 (0.80).
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
// closing event is void. An append is therefore answered only when it is known
// what lies below it on the control subject. Sequences have no gaps, so events of
// this ledger that follow each other directly have no control event of anybody
// between them: what governs the first governs all of that run, which is believed
// for a second. The first is answered after a read of the control subject. The read asks, in one request,
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
//
// # Reading
//
// A replay asks any replica for a thousand events at a time (a direct get,
// ADR-31), the next thousand before it has handed over these. It makes no
// consumer: a consumer delivers where its configuration says, which no permission
// of NATS sees, so that whoever may make one can have messages put on the
// ledger's own subjects.
//
// The answer is the bytes of the events alone. Their sequences follow from their
// places, and the mark at the end shows whether one is missing; then the same is
// asked for with headers, which tell a gap in the ledger from a loss on the way.
// Each request begins with the last event that was read, so that a stream which
// was replaced shows.
//
// Only who needs subjects has them sent (WithSubjects): for each event the server
// writes six headers and the client reads ten. For events of 600 bytes, server and
// client in one process on two processors that had other work too, a replay took
// 5.3 µs of processor time an event, 15 with subjects, and the client library's
// ordered consumer 7.6. As a part of the speed of that consumer, in one run of
//
//	go test -run xxx -bench 'Replay$' -benchtime=12x ./eventstore
//
// it was 1.1 to 2.2, the most when the machine was busiest, and 0.4 to 0.7 with
// subjects.
//
// Nothing tells a follower that something was recorded. It looks again after 2 ms,
// and after twice as long each time that it finds nothing, up to a fifth of a
// second: an event that comes after a pause is seen later by about that pause, at
// most by 0.3 s. Twenty followers of quiet ledgers took 4 % of one processor, server
// and clients together.
//
// # Refilling
//
// Refill puts the events of a copy into an empty ledger at the sequences that
// they had. It does not go through the queue: its batches expect the end of the
// whole ledger (Nats-Expected-Last-Sequence, which a server accepts only in the
// first message of a batch) and not of each subject. Four batches of 1000 under
// way are as fast as nine of the bare program, in one run of
//
//	go test -run xxx -bench Refill -benchtime=5x ./eventstore
//
// on a machine busy with other work: 1.05 of bare on one server with its batches
// staged on disk, 1.06 staged in memory, 1.03 on three servers; eight under way
// were no faster. In another run of the four, 1.01, 0.90 and 0.83. A server that
// loses its lead drops what it was sent without a word, so each change of leader
// costs a refill the 5 s that an answer is awaited.
package eventstore
