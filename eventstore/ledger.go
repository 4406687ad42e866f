package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Ledger is one opened ledger. Its methods are safe for concurrent use.
type Ledger struct {
	config Config
	js     jetstream.JetStream
	wire   *wire

	leaderGetSubject string
	directGetSubject string
	infoSubject      string

	queue   *queue     // from the callers to the committer
	sending sync.Mutex // held by who sends a batch, so that they end one after another
	fence   fence
	probes  prober
	observe Observer

	// ctx ends when the ledger is closed: what is under way then is cut off.
	// It is no caller's context, because a commit belongs to many callers.
	ctx       context.Context
	cancel    context.CancelCauseFunc
	idle      chan struct{} // closed when the committer and all commits have ended
	histories chan struct{} // holds a place for every page of a history that is under way

	closeWire sync.Once
	closeErr  error
}

// ConnectOptions are the options that a connection needs to carry a ledger.
// More may be added, but these must not be weakened.
func ConnectOptions() []nats.Option {
	return []nats.Option{
		// Without a reconnect buffer, a publish either goes out now or fails
		// now. With one, an append that was answered as timed out could be
		// recorded a second later.
		nats.ReconnectBufSize(-1),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 200*time.Millisecond),
		// A silent peer is found dead within about 10 s.
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
	}
}

// Open opens an existing ledger. It starts goroutines that end with Close, and
// leaves the connection to its owner. Several ledgers may share a connection,
// which must have been made with ConnectOptions.
//
// ErrNotFound is returned when the stream does not exist.
func Open(ctx context.Context, nc *nats.Conn, c Config) (*Ledger, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if nc.Opts.ReconnectBufSize >= 0 {
		return nil, fmt.Errorf("open ledger %s: the connection keeps publishes while it is disconnected, so that one that failed could be recorded later: connect with eventstore.ConnectOptions", c.Stream)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", c.Stream, err)
	}
	stream, err := js.Stream(ctx, c.Stream)
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", c.Stream, streamError(err))
	}
	if !stream.CachedInfo().Config.AllowDirect {
		return nil, fmt.Errorf("open ledger %s: %w", c.Stream, errNoDirect)
	}
	w, err := newWire(nc)
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", c.Stream, err)
	}
	l := &Ledger{
		config:           c,
		js:               js,
		wire:             w,
		leaderGetSubject: "$JS.API.STREAM.MSG.GET." + c.Stream,
		directGetSubject: "$JS.API.DIRECT.GET." + c.Stream,
		infoSubject:      "$JS.API.STREAM.INFO." + c.Stream,
		queue:            newQueue(c.maxPending()),
		observe:          c.observer(),
		probes:           prober{patience: probePatience},
		idle:             make(chan struct{}),
		histories:        make(chan struct{}, maxHistories),
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.probes.ask = l.lastKnown
	go l.commitAll()
	return l, nil
}

// errNoDirect says why a ledger cannot be read.
var errNoDirect = errors.New("the stream does not allow direct reads: somebody changed its configuration; set allow_direct again")

// Close stops accepting, waits until everything that was accepted is answered,
// and ends the ledger's goroutines. When ctx ends first, what is under way is
// cut off (ErrOutcomeUnknown, or ErrClosed for what was never sent) and Close
// says so.
func (l *Ledger) Close(ctx context.Context) error {
	l.queue.close()
	var late error
	select {
	case <-l.idle:
	case <-ctx.Done():
		late = fmt.Errorf("close ledger %s: appends were cut off: %w", l.config.Stream, ctx.Err())
		l.cancel(ErrClosed)
		<-l.idle
	}
	l.cancel(ErrClosed)
	l.probes.close()
	l.closeWire.Do(func() {
		if err := l.wire.close(); err != nil {
			l.closeErr = fmt.Errorf("close ledger %s: %w", l.config.Stream, err)
		}
	})
	return errors.Join(late, l.closeErr)
}

// Pending is the number of events that wait to be sent, at most MaxPending.
func (l *Ledger) Pending() int { return l.queue.depth() }

// Info is the state of a ledger, as its leader reports it.
type Info struct {
	Stream   string
	Created  time.Time
	First    uint64 // the first sequence that is stored; 1 unless something was lost
	Last     uint64 // the last sequence that was given; 0 for an empty ledger
	Messages uint64 // stored events; Last of an intact ledger
	Bytes    uint64 // on disk
	Subjects uint64 // different ones
	Replicas int
	Leader   string   // empty on a single server
	Lagging  []string // replicas that are offline or behind
}

// Info asks the stream's leader for the state of the ledger.
func (l *Ledger) Info(ctx context.Context) (Info, error) {
	info, err := l.streamInfo(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("ledger %s: %w", l.config.Stream, err)
	}
	state := Info{
		Stream:   l.config.Stream,
		Created:  info.Created,
		First:    info.State.FirstSeq,
		Last:     info.State.LastSeq,
		Messages: info.State.Msgs,
		Bytes:    info.State.Bytes,
		Subjects: info.State.NumSubjects,
		Replicas: 1,
	}
	if info.Cluster != nil {
		state.Leader = info.Cluster.Leader
		state.Replicas += len(info.Cluster.Replicas)
		for _, peer := range info.Cluster.Replicas {
			if peer.Offline || !peer.Current {
				state.Lagging = append(state.Lagging, peer.Name)
			}
		}
	}
	return state, nil
}

// streamInfo is the server's answer about the stream. The configuration is
// kept as it came, because the client library drops fields it does not know.
type streamInfo struct {
	Error   *jetstream.APIError    `json:"error"`
	Config  map[string]any         `json:"config"`
	Created time.Time              `json:"created"`
	State   jetstream.StreamState  `json:"state"`
	Cluster *jetstream.ClusterInfo `json:"cluster"`
}

func (l *Ledger) streamInfo(ctx context.Context) (*streamInfo, error) {
	if l.ctx.Err() != nil {
		return nil, ErrClosed
	}
	var info streamInfo
	err := l.retryRead(ctx, func(ctx context.Context) error {
		info = streamInfo{}
		msg, err := l.wire.request(ctx, l.infoSubject, nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(msg.Data, &info); err != nil {
			return fmt.Errorf("the server's answer about the stream: %w", err)
		}
		if info.Error != nil {
			return streamError(info.Error)
		}
		return nil
	})
	return &info, err
}

// streamError tells a missing stream from one that cannot be asked.
func streamError(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || hasCode(err, jetstream.JSErrCodeStreamNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return reachable(err)
}

// within derives a context that ends with the ledger too.
func (l *Ledger) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
