package api_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// TestBackend: without a backend everything is `unavailable`, and what was
// cast before is still known when one is back.
func TestBackend(t *testing.T) {
	d := newDesk(t)
	cast(d)
	before := d.ask(vote(anna, "ilze-berzina", "k1"))
	backend := d.backend(passes{"pass-web": {ID: "web", Role: domain.RoleChannel, Channel: "web"}})
	for range 3 {
		d.api.Use(nil)
		refused(t, d.ask(vote(anna, "ilze-berzina", "k1")), api.Unavailable)
		refused(t, d.ask(request{path: "votes"}.of(anna).by("-")), api.Unavailable)
		d.api.Use(backend)
		same(t, before, d.ask(vote(anna, "ilze-berzina", "k1")))
	}
}

// TestBusy: beyond the places there are a request is turned away at once, and
// lost places would be noticed.
func TestBusy(t *testing.T) {
	d := newDesk(t)
	for range 3 {
		release := d.api.Occupy()
		refused(t, d.ask(vote(anna, "ilze-berzina", "k1")), api.Busy)
		refused(t, d.ask(vote(anna, "ilze-berzina", "k1").by("-")), api.Unauthorized)
		release()
		d.ask(vote(anna, "ilze-berzina", "k1")).receipt(t)
	}
	d.get = func() error { panic("kaut kas") }
	refused(t, d.ask(vote(anna, "ilze-berzina", "k1")), api.Internal)
	d.get = nil
	d.api.Occupy()() // waits for ever if the panic kept its place
}

// TestGoneWhileWaiting: a client that hangs up while the ledger is away frees
// its place.
func TestGoneWhileWaiting(t *testing.T) {
	w := newWorld(t)
	k := w.worker()
	k.ask(vote(anna, "ilze-berzina", "k1")).receipt(t)
	w.server.Stop()
	c := dial(t, k.addr())
	_, err := c.Write([]byte(k.text(vote(peter, "ilze-berzina", "k1"))))
	check(t, err)
	c.Close()
	k.finished(t, 2)
	k.api.Occupy()()
	w.server.Start(t)
	storetest.Eventually(t, "votes are taken again", func() bool {
		return k.ask(vote(peter, "ilze-berzina", "k1")).status == http.StatusCreated
	})
}

// outageClients vote while the server is shut down and started again.
const (
	outageClients = 16
	outageVotes   = 40 // of each of them
	outages       = 2
)

// TestOutage: while the server goes away and comes back, clients that retry
// with their keys get one receipt for each vote, and in between nothing but
// 503.
func TestOutage(t *testing.T) {
	w := newWorld(t)
	workers := [2]*worker{w.worker(), w.worker()}
	o := &outage{t: t, workers: workers, receipts: make(map[string]string), progress: make(chan struct{}, outageClients*outageVotes)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for client := range outageClients {
		clients.Go(func() { o.client(ctx, client) })
	}
	for range outages {
		for range outageClients * outageVotes / (outages + 1) {
			<-o.progress
		}
		w.server.Stop()
		w.server.Start(t)
	}
	clients.Wait()
	o.agrees()
}

type outage struct {
	t        *testing.T
	workers  [2]*worker
	progress chan struct{} // one for each vote that was acknowledged

	mu       sync.Mutex
	receipts map[string]string // by voter; guarded by mu
}

func (o *outage) client(ctx context.Context, client int) {
	for i := range outageVotes {
		voter := fmt.Sprintf("sms:%d-%d", client, i)
		q := vote(voter, "ilze-berzina", "k-"+voter)
		for try := 0; ctx.Err() == nil; try++ {
			r := o.workers[(client+try)%2].ask(q)
			if r.status == http.StatusCreated {
				o.mu.Lock()
				o.receipts[voter] = r.body
				o.mu.Unlock()
				break
			}
			if code := r.problem(o.t).Code; code != api.Unavailable && code != api.OutcomeUnknown && code != api.Busy {
				o.t.Errorf("while the server is away: %s", r.body)
			}
		}
		o.progress <- struct{}{}
	}
}

// agrees fails the test unless the ledger is the set of acknowledged votes and
// every retry gets the receipt of the first time.
func (o *outage) agrees() {
	o.t.Helper()
	if n := len(o.workers[0].world.events()); n != outageClients*outageVotes || len(o.receipts) != n {
		o.t.Errorf("%d votes are in the ledger, %d were acknowledged", n, len(o.receipts))
	}
	for voter, body := range o.receipts {
		r := o.workers[0].ask(vote(voter, "ilze-berzina", "k-"+voter))
		if r.body != body {
			o.t.Errorf("the receipt was %s, and is %s", body, r.body)
		}
		refused(o.t, o.workers[1].ask(vote(voter, "ilze-berzina", "")), domain.AlreadyVoted)
	}
}
