package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// clustered is one replicated ledger, opened once on each server.
type clustered struct {
	*testing.T
	cluster     *storetest.Cluster
	config      eventstore.Config
	connections []*nats.Conn
	ledgers     []*eventstore.Ledger

	mu       sync.Mutex
	recorded map[uint64]eventstore.Message
}

func newClustered(t *testing.T, cluster *storetest.Cluster, stream string) *clustered {
	t.Helper()
	c := &clustered{T: t, cluster: cluster, config: storetest.Config(stream, 3), recorded: make(map[uint64]eventstore.Message)}
	for _, s := range cluster.Servers {
		c.connections = append(c.connections, s.Connect(t))
	}
	if err := eventstore.Create(t.Context(), c.connections[0], c.config); err != nil {
		t.Fatal(err)
	}
	for i, nc := range c.connections {
		ledger := open(t, nc, c.config)
		c.ledgers = append(c.ledgers, ledger)
		// An append waits until the server knows of the new stream.
		m := storetest.Event(storetest.Subject(stream, 9_000_000+i))
		a, err := ledger.Append(t.Context(), m, 0)
		if err != nil {
			t.Fatal(err)
		}
		c.record(a.Sequence, m)
	}
	return c
}

func (c *clustered) record(sequence uint64, m eventstore.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recorded[sequence] = m
}

// TestBatchesThatConflict: in every round each of three ledgers commits a
// batch, and the batches share some subjects. On a cluster the server refuses
// most of them because another one is in flight (10164), with nothing to see.
func TestBatchesThatConflict(t *testing.T) {
	const rounds, own, shared = 15, 40, 10
	c := newClustered(t, storetest.NewCluster(t), "LEDGER_conflicts")
	constant, err := c.refusalsInFlight()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the server said %d times that another append is in flight", constant)
	for round := range rounds {
		var winners [shared]atomic.Int32
		var wg sync.WaitGroup
		start := make(chan struct{})
		for w, ledger := range c.ledgers {
			for i := range own + shared {
				subject := storetest.Subject(c.config.Stream, (round*len(c.ledgers)+w)*1000+i)
				if i < shared {
					subject = storetest.Subject(c.config.Stream, -round*1000-i-1)
				}
				wg.Go(func() {
					m := storetest.Event(subject)
					<-start
					a, err := ledger.Append(t.Context(), m, 0)
					switch {
					case err == nil:
						c.record(a.Sequence, m)
						if i < shared {
							winners[i].Add(1)
						}
					case i >= shared || !errors.Is(err, eventstore.ErrConflict):
						t.Errorf("append to %s: %v", subject, err)
					}
				})
			}
		}
		close(start)
		wg.Wait()
		for i := range winners {
			if n := winners[i].Load(); n != 1 {
				t.Errorf("round %d: %d writers won the shared subject %d", round, n, i)
			}
		}
	}
	wantLedger(t, c.ledgers[0], c.recorded)
}

// refusalsInFlight shows that this cluster does answer 10164: it publishes to
// one subject from all connections at once and counts.
func (c *clustered) refusalsInFlight() (int64, error) {
	const publishes = 200
	var constant atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for w, nc := range c.connections {
		wg.Go(func() {
			for i := range publishes {
				m := nats.NewMsg(storetest.Subject(c.config.Stream, 1_000_000+i))
				m.Data = fmt.Appendf(nil, "izmēģinājums %d", w)
				m.Header.Set("Nats-Expected-Last-Subject-Sequence", "0")
				answer, err := nc.RequestMsg(m, 5*time.Second)
				if err != nil {
					failed.Store(&err)
					return
				}
				var ack struct {
					Sequence uint64 `json:"seq"`
					Error    struct {
						Code int `json:"err_code"`
					} `json:"error"`
				}
				if err := json.Unmarshal(answer.Data, &ack); err != nil {
					failed.Store(&err)
					return
				}
				switch {
				case ack.Error.Code == 10164:
					constant.Add(1)
				case ack.Error.Code == 0:
					c.record(ack.Sequence, eventstore.Message{Subject: m.Subject, Data: m.Data})
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return constant.Load(), nil
}

// TestLeadersChange: while many append, leaders step down and a leader is
// stopped. Callers repeat what they are unsure of; each event is there once.
func TestLeadersChange(t *testing.T) {
	c := newClustered(t, storetest.NewCluster(t), "LEDGER_leaders")
	const callers = 60
	calm := make(chan struct{}) // closed when nothing changes any more
	var wg sync.WaitGroup
	for w := range callers {
		ledger := c.ledgers[w%len(c.ledgers)]
		wg.Go(func() {
			for last := uint64(0); ; {
				m := storetest.Event(storetest.Subject(c.config.Stream, w))
				a, err := appendUntilKnown(t.Context(), ledger, m, last)
				if err != nil {
					t.Errorf("caller %d: %v", w, err)
					return
				}
				last = a.Sequence
				c.record(last, m)
				select {
				case <-calm:
					return
				default:
				}
			}
		})
	}
	c.changeLeaders()
	close(calm)
	wg.Wait()
	wantLedger(t, c.ledgers[0], c.recorded)
	t.Logf("%d events", len(c.recorded))
}

// changeLeaders lets the leader step down a few times and then stops the
// server that leads, waits for another, and starts it again.
func (c *clustered) changeLeaders() {
	c.Helper()
	for range 4 {
		leader := c.cluster.StreamLeader(c, c.config.Stream)
		if _, err := leader.Connect(c).Request("$JS.API.STREAM.LEADER.STEPDOWN."+c.config.Stream, nil, 10*time.Second); err != nil {
			c.Errorf("step down: %v", err)
		}
		c.waitForGrowth()
	}
	leader := c.cluster.StreamLeader(c, c.config.Stream)
	leader.Stop()
	c.waitForGrowth()
	leader.Start(c)
	c.waitForGrowth()
}

// waitForGrowth waits until more was recorded than there is now.
func (c *clustered) waitForGrowth() {
	c.Helper()
	count := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.recorded)
	}
	before := count()
	storetest.Eventually(c, "appends go on", func() bool { return count() > before+100 })
}

// TestFollowersOfACluster: a follower on each of three servers sees every event
// once and in order, while leaders change and a server is away. One of them is
// thrown off its server, and reads on from one that has missed some events.
func TestFollowersOfACluster(t *testing.T) {
	c := newClustered(t, storetest.NewCluster(t), "LEDGER_followers")
	const callers = 20
	calm := make(chan struct{}) // closed when nothing changes any more
	var appending sync.WaitGroup
	for w := range callers {
		ledger := c.ledgers[w%len(c.ledgers)]
		appending.Go(func() {
			for last := uint64(0); ; {
				m := storetest.Event(storetest.Subject(c.config.Stream, w))
				a, err := appendUntilKnown(t.Context(), ledger, m, last)
				if err != nil {
					t.Errorf("caller %d: %v", w, err)
					return
				}
				last = a.Sequence
				c.record(last, m)
				select {
				case <-calm:
					return
				default:
				}
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	seen := make([]map[uint64]string, len(c.ledgers))
	ends := make([]atomic.Uint64, len(c.ledgers))
	var following sync.WaitGroup
	for i, ledger := range c.ledgers {
		seen[i] = make(map[uint64]string)
		following.Go(func() {
			err := ledger.Follow(ctx, 1, func(batch []eventstore.Recorded) error {
				for _, e := range batch {
					if next := ends[i].Load() + 1; e.Sequence != next {
						return fmt.Errorf("sequence %d, want %d", e.Sequence, next)
					}
					seen[i][e.Sequence] = string(e.Data)
					ends[i].Store(e.Sequence)
				}
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("follower %d: %v", i, err)
			}
		})
	}
	c.changeLeaders()
	close(calm)
	appending.Wait()
	info, err := c.ledgers[0].Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range ends {
		storetest.Eventually(t, "every follower has seen everything", func() bool { return ends[i].Load() == info.Last })
	}
	stop()
	following.Wait()
	for i := range seen {
		for sequence, m := range c.recorded {
			if seen[i][sequence] != string(m.Data) {
				t.Errorf("follower %d has read %q at %d, acknowledged was %q", i, seen[i][sequence], sequence, m.Data)
			}
		}
	}
}

// TestASealedCluster: what one server has sealed takes nothing through any of
// them, and is set up as it must be.
func TestASealedCluster(t *testing.T) {
	c := newClustered(t, storetest.NewCluster(t), "LEDGER_sealed")
	if err := c.ledgers[0].Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, ledger := range c.ledgers {
		storetest.Eventually(t, "every server knows of the seal", func() bool {
			found, err := ledger.CheckConfig(t.Context(), true)
			return err == nil && found == nil
		})
		if _, err := ledger.Append(t.Context(), storetest.Event(storetest.Subject(c.config.Stream, i)), 0); !errors.Is(err, eventstore.ErrSealed) {
			t.Errorf("append through server %d: %v", i, err)
		}
		if err := ledger.Seal(t.Context()); err != nil {
			t.Errorf("seal again through server %d: %v", i, err)
		}
	}
}
