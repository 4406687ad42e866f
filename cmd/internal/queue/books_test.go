package queue_test

import (
	"context"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/eventstore"
)

// While the outcomes of one campaign are being opened, and its server does not
// answer, the submissions of the others are decided.
func TestSlowOpening(t *testing.T) {
	w := newWorld(t)
	w.open("cita")
	begun, answered := make(chan struct{}), make(chan struct{})
	r := w.start(func(c *queue.Config) {
		c.OpenLedger = func(ctx context.Context, ec eventstore.Config) (queue.Ledger, error) {
			if ec.Stream == queue.OutcomesStream("cita") {
				close(begun)
				select {
				case <-answered:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			l, err := eventstore.Open(ctx, w.nc, ec)
			if err != nil {
				return nil, err
			}
			return l, nil
		}
	})
	w.publish("submissions.cita.web.kads", `{"submission_id":"1","voter":"kāds","specialist_id":"ilze-berzina","action":"vote"}`)
	<-begun
	ctx, stop := context.WithTimeout(t.Context(), closeTimeout)
	defer stop()
	waiting, _, err := queue.Await(ctx, w.nc, campaign, []queue.Item{vote("kāds", "zane-cirule", "2")})
	check(t, err)
	w.submit(vote("kāds", "zane-cirule", "2"))
	if err := waiting.Each(ctx, func(queue.Outcome, error) {}); err != nil {
		t.Errorf("another campaign's: %v", err)
	}
	close(answered)
	w.drained()
	r.end()
}
