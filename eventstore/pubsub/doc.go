// Package pubsub carries messages over NATS JetStream for Watermill: a Publisher
// whose messages are durable when Publish returns, and a Subscriber on durable
// consumers that can keep the order of each key while many messages are under way.
//
//	Publish ─┐                        ┌─ pull ── dispatcher ──┬─ anna/1 ─ handler
//	Publish ─┼─ lane ── batch ── stream                       ├─ berta/1 ─ handler
//	Publish ─┘ (one a stream)         │                       └  anna/2 waits for anna/1
//	                                  └─ (stands by) ── another process
//
// A topic is a NATS subject; subscribers may use wildcards. Streams are made by
// CreateStream, never in passing. Connections belong to who made them, with
// eventstore.ConnectOptions, and are never closed here.
//
// # Publishing
//
// Publish returns after the durable acknowledgement of every message. There is
// no timer: what is alone goes at once; while a commit is under way the next one
// gathers, from all callers, up to 1000 messages, and goes as one atomic batch
// (ADR-50), or as pipelined publishes when there are fewer than 10, each of another
// call, or the stream takes no batch; then a message of a call waits for the one
// before it. The messages of one call keep their order, and none is stored when one
// before it was not. The errors tell
// what was not stored (ErrRefused, ErrUnavailable, ErrNoStream, ErrClosed) from
// what may be (ErrOutcomeUnknown). Nats-Msg-Id is not used: its window is short
// and in memory, and the ids of all publishers are in it, so that one of them can
// have the message of another one acknowledged and dropped. CreateStream makes the
// window as short as the server lets it, 100 ms. Whoever publishes again after ErrOutcomeUnknown may store a
// message twice, so a handler must know a submission by its own id.
//
// # Delivery
//
// Every message is delivered at least once: it comes again until a handler has
// acked it and the server knows. Handlers must be idempotent. While a handler is
// at work the server is told so, three times and more in AckWait. A nacked message
// rests NackDelayMin, twice as long after each further delivery, at most
// NackDelayMax. What one subscription has acked it does not give out again, even
// when the ack was lost, as long as it is among its last 32768.
//
// Close gives back what was not handed over, waits for handlers, and after
// CloseTimeout ends their contexts and gives their messages back too; none of them
// waits for AckWait.
//
// # Order
//
// Without OrderBy the subscribers of a group share its messages, and a message
// that is nacked is overtaken. With OrderBy the following holds, across crashes of
// subscribers, restarts and changes of leader of the server, and whatever is
// nacked:
//
//	A message is given out for the first time only after every earlier message
//	with its key, in the order of the stream, was acked by some handler.
//
// What does not hold: a duplicate may come after later messages of its key. That
// happens when an ack was lost with a connection, with a server that was killed,
// or with a handler that is still at work when another subscriber has taken over;
// for a moment two handlers may then work on the same message. Nor is there order
// between keys, or between concurrent calls of Publish. A topic's messages are in
// the order in which the stream has stored them.
//
// It works like this. JetStream pins one subscriber of the group (ADR-42), the
// others stand by. A subscriber that becomes active cannot know what is delivered
// and unacked, so it hands nothing over until it does. If the one before it was
// closed, all of that has been given back, comes at once, and its number is known.
// Otherwise it resets the consumer to its ack floor: the server delivers again, in
// order, all that is unacked. From there on the deliveries are numbered without
// gaps; a gap means another reset. More processes do not make an ordered group
// faster, they make it survive: partition by topics for that.
//
// Measured alternatives: one message in flight is ordered without any of this, but
// a durable commit for each message (0.2 to 2 ms) bounds it to a few thousand a
// second at best. InFlight lets a handler's group commits gather.
//
// A takeover after a crash takes TakeoverAfter and a second. On a Keep stream the
// reset also brings again what was acked above the oldest unacked message; a
// message that is nacked for long makes that much. MetadataDeliveries begins anew.
//
// # Keep or WorkQueue
//
// A work queue removes each message as it is acked, and with fsync always each
// removal costs its own fsyncs. In one run on 2 cores of a shared machine (fsync
// about 600 µs) the client library alone consumed 1,300 to 1,600 messages/s from a
// WorkQueue stream and 52,000 from a Keep stream. So Keep is the default, and
// Trim removes what the groups that it is told have acked, at the cost of a few
// fsyncs altogether.
//
// # Malformed messages
//
// Anybody may publish to a topic. A message without a UUID gets one that is the
// same in each delivery. One whose headers mean nothing is malformed: it goes to
// the Poison topic and is done with when its copy there is durable, or to the
// handler, with MetadataMalformed. Metadata that no header can carry, such as a
// reason of several lines, travels as JSON in the header Paldies-Metadata.
//
// # Speed
//
// On 2 cores of a machine that others used at the same time, messages of 300
// bytes, server and clients in one process, as ratios in one run of
//
//	go test -run '^$' -bench . -benchtime 3x ./eventstore/pubsub
//
// where bare are atomic batches of 1000 with four under way, without this package:
//
//	callers × messages   messages/s   of bare
//	       64 × 1             4,300      0.12
//	      256 × 1            11,200      0.32
//	     4096 × 1            20,100      0.64
//	       16 × 100          19,800      0.80
//	        4 × 1000         23,300      0.77
//	        1 × 20,000       25,500      0.82
//	pipelined singles         2,300      0.10
//
// Fsync always is the limit, so atomic batches are what to compare with. Few callers
// of one message each cannot fill a batch.
//
// Consuming from a Keep stream with a goroutine and an ack for each message:
// 41,000 to 51,000 messages/s without order and 26,000 to 44,000 in order in several
// runs, always 0.4 to 0.5 of the client library's Consume with a handler that only
// acks. The package's own code takes 12 % of the processor time.
package pubsub
