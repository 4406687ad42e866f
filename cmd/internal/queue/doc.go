// Package queue takes submissions of channels that must never wait or lose: the
// app's outbox, the desk for paper slips. They are durable when they are in the
// queue, and workers decide them when they can.
//
//	submissions.<campaign>.<channel>.<key> ─▶ Worker ─▶ intake.Submit ─▶ the ledger
//	                                            │  └──▶ outcomes.<campaign>.<channel>.<hash of the id>.<event id>
//	                                            └─────▶ poison.<campaign>.<channel>.<key>, what can never succeed
//
// docs/channels.md describes it for who writes a channel.
//
// # Guarantees
//
// A submission is what its channel calls it: the channel's own id, with the
// channel, the voter and the action (design, "Once"). Whatever dies, and however
// often it is published and delivered, it has one outcome, written with the
// expectation that there is none. A worker decides only what
// has none, so that a repeat that was refused is not accepted because of what the
// voter has done since. It looks for the outcome each time that it has read the
// voter's ballot, and what it records then is fenced by that ballot: a worker that
// was halted, and relieved meanwhile, records nothing beside its successor. What is
// accepted is in the ledger once, because intake finds an event by its id. Another
// content under the same id goes to the poison; it is neither answered with the first
// one's outcome nor dropped.
//
// The submissions of one key are decided in the order in which they are stored
// (eventstore/pubsub). The order is by campaign and key, whatever the channel.
//
// What does not hold: when a worker is halted for longer than the next one waits
// to take over, after it has looked for the outcome, and nothing of the voter is
// recorded in that time, the two decide on the same ballot. They come to different
// answers only if something else has changed meanwhile: the campaign was closed,
// or its time is over, or a specialist was withdrawn. The same holds when it was
// halted between its record and its outcome and the voter does something by
// another channel in just that time. The first outcome stands, the ledger says
// what counts, and it is logged as an error.
//
// # Where the channel is named
//
// In the subject, never in the body: NATS permissions bind a channel's user to
// submissions.*.<channel>.>, and nothing else has to be believed.
//
// # Personal data
//
// Submissions hold voters' ids. They leave the queue within trimInterval (10 s)
// after they and all that came before them are decided; one that waits for a
// fault to pass keeps those behind it. One that only a person can help goes to
// the poison after patience (5 minutes). Undecided ones go after 30 days, and so
// does the poison. Outcomes hold no voter: their subjects end with the event's id,
// which is a hash under the campaign's key, and a plain hash of the id, which
// could be guessed, is nowhere in them. They are kept for 100 days, which is
// longer than a submission can be under way. After that a repeat is decided anew:
// one that was accepted gets the same receipt, for the ledger remembers; one that
// was refused is decided by the ballot as it is then.
//
// # Keep and Trim instead of a work queue
//
// A work queue of JetStream removes each message as it is acked, and with fsync
// always each removal costs its own fsyncs. In one run the client library alone
// consumed 1,300 to 1,600 messages/s from a work queue, and 52,000 from a stream
// that keeps its messages (package pubsub). So the stream keeps, and a worker
// removes what is decided every ten seconds.
//
// # Outcomes are a ledger
//
// They are written by eventstore.Ledger as it is: group commits, one expectation
// for each, unknown outcomes resolved. A ledger has a control subject, on which
// here nothing is ever recorded; it costs one read a second.
//
// # Speed
//
// On 2 cores, everything in one process and fsynced, as ratios in one run of
//
//	go test -run '^$' -bench . -benchtime 1x ./cmd/internal/queue -votes 60000
//
// two runs had 18,400 and 19,400 votes/s go through the queue: 0.20 and 0.21 of the
// rate at which a ledger takes bytes (4000 appends at a time), and 0.28 and 0.30 of
// that at which intake takes votes. 150,000 went at 18,000 to
// 20,700/s, from the first second to the last. It is a matter of work and not of
// waiting: both cores are busy to 95 %, and more or fewer submissions in hand changed
// nothing. An append takes 19 µs of processor time, a vote through the queue 85 to 100.
// Of these, a third goes to intake, a fifth to the server's commits of two batches, a
// seventh to the garbage collector, which goes through the stacks of two goroutines a
// message, a tenth to Watermill's router and its middlewares, and the rest to delivery,
// outcomes and acks. Goroutines that stay, instead of one for each message in the
// router, were tried: 6 % faster, and not worth it. Two durable appends alone are half
// as fast as one. Against the same router on watermill-nats it was 24 times as fast when
// it took 16,000/s (eventstore/comparison, -benchtime 60000x).
//
// # Poison
//
// What can never succeed must not be in the way: no JSON, another schema, an
// unknown campaign, a malformed subject, too large. What passes by itself is
// tried again, first here and then by redelivery. What only a person can mend,
// such as a campaign's key that is missing here, is waited for
// five minutes, because it may be on its way, unless the campaign is closed. The
// minutes count from the first time that this worker has missed it: a submission that
// has waited for a worker is not given up at once. Then the campaign's submissions go
// to the poison, those that come later at once, until the key is there. So do those beyond maxWaiting (4,000)
// that wait for one fault, because a worker can hold only so many (held, 16,000),
// and when it does all others wait behind them. Two things can still make all others
// wait: submissions of one key that come faster than they are decided, for of one key
// only one is decided at a time, and a fault of the servers that does not pass.
package queue
