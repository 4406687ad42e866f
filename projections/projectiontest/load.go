package projectiontest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

// Load is a campaign of many votes in a real ledger, for benchmarks.
type Load struct {
	Campaign string
	Votes    int
	Ledger   *eventstore.Ledger

	js jetstream.JetStream
}

const (
	loadSpecialists = 200
	// loadCallers is how many append at the same time, so that commits are full.
	loadCallers = 2048
	// loadPace is the time between two votes, by which votes share an hour.
	loadPace = 15 * time.Second
)

// NewLoad records a campaign with one vote for each of so many voters.
func NewLoad(b testing.TB, nc *nats.Conn, votes int) *Load {
	b.Helper()
	l := &Load{Campaign: "slodze", Votes: votes}
	config := eventstore.Config{Stream: domain.StreamName(l.Campaign), Subjects: domain.StreamSubjects(l.Campaign),
		Control: domain.ControlSubject(l.Campaign), Replicas: 1}
	check(b, eventstore.Create(b.Context(), nc, config))
	var err error
	l.js, err = jetstream.New(nc)
	check(b, err)
	l.Ledger, err = eventstore.Open(b.Context(), nc, config)
	check(b, err)
	b.Cleanup(func() { check(b, l.Ledger.Close(context.Background())) })
	_, err = l.record(begin, domain.CampaignOpened{OpensAt: begin, ClosesAt: begin.AddDate(1, 0, 0), Timezone: "Europe/Riga",
		Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}}, KeyID: domain.PseudonymKey{}.ID()})
	check(b, err)
	for i := range loadSpecialists {
		p := profiles[i%len(profiles)]
		p.Name = fmt.Sprintf("%s %d", p.Name, i)
		_, err = l.record(begin, domain.SpecialistRegistered{Specialist: fmt.Sprintf("s%d", i), Profile: p})
		check(b, err)
	}
	var work sync.WaitGroup
	for caller := range loadCallers {
		work.Go(func() {
			for i := caller; i < votes; i += loadCallers {
				if _, err := l.Vote(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	work.Wait()
	return l
}

// Vote records the vote with a number, which nobody has recorded before, and
// returns its sequence.
func (l *Load) Vote(i int) (uint64, error) {
	var voter domain.Pseudonym
	copy(voter[:], fmt.Sprintf("%016d", i+1))
	return l.record(begin.Add(time.Duration(i)*loadPace), domain.VoteCast{Voter: voter,
		Specialist: fmt.Sprintf("s%d", i%loadSpecialists), Channel: "web", Active: 1})
}

func (l *Load) record(at time.Time, d domain.Payload) (uint64, error) {
	e := domain.Event{ID: uuid.New(), Campaign: l.Campaign, Time: at, Data: d}
	data, err := domain.Encode(e)
	if err != nil {
		return 0, err
	}
	appended, err := l.Ledger.Append(context.Background(), eventstore.Message{Subject: domain.Subject(e), Data: data}, 0)
	return appended.Sequence, err
}

// Events is how many events NewLoad has recorded.
func (l *Load) Events() int { return 1 + loadSpecialists + l.Votes }

// Bare is how long a bare ordered consumer takes to receive all events. It is
// what the speed of replays is compared with.
func (l *Load) Bare(b testing.TB) time.Duration {
	b.Helper()
	start := time.Now()
	consumer, err := l.js.OrderedConsumer(b.Context(), domain.StreamName(l.Campaign), jetstream.OrderedConsumerConfig{})
	check(b, err)
	messages, err := consumer.Messages(jetstream.PullMaxMessages(20_000))
	check(b, err)
	defer messages.Stop()
	for range l.Events() {
		_, err := messages.Next()
		check(b, err)
	}
	return time.Since(start)
}

// List implements projections.Campaigns.
func (l *Load) List(context.Context) ([]string, error) { return []string{l.Campaign}, nil }

// Open implements projections.Campaigns. The ledger stays open.
func (l *Load) Open(context.Context, string) (projections.Ledger, error) {
	return keptOpen{l.Ledger}, nil
}

type keptOpen struct{ *eventstore.Ledger }

func (keptOpen) Close(context.Context) error { return nil }
