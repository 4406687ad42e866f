package audit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

const campaign = "laba-servisa-kustiba-2018"

var (
	opensAt  = time.Date(2017, 11, 12, 22, 0, 0, 0, time.UTC)
	closesAt = time.Date(2018, 11, 11, 22, 0, 0, 0, time.UTC)
	noon     = time.Date(2018, 5, 4, 9, 0, 0, 0, time.UTC)
	key      = domain.PseudonymKey{1, 2, 3}
)

// world is a campaign on a ledger in memory. It records what domain decides,
// as intake does, and whatever a forger wants.
type world struct {
	t        rapid.TB
	ledger   *storetest.Memory
	codec    *domain.Codec
	clock    time.Time
	log      []domain.Event    // the event with sequence n at n-1; empty where it cannot be read
	last     map[string]uint64 // sequence of the last event, by subject
	register domain.Register
	ids      int // how many ids were given out
}

// newWorld opens a campaign in which a voter has three votes (event 1). The
// ledger is looked at when owner ends.
func newWorld(owner testing.TB, t rapid.TB) *world {
	t.Helper()
	codec, err := domain.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, codec: codec, clock: noon, last: make(map[string]uint64),
		ledger: storetest.NewMemory(owner, domain.ControlSubject(campaign))}
	w.admin(domain.CampaignOpened{
		Title: "Laba servisa kustība", OpensAt: opensAt, ClosesAt: closesAt, Timezone: "Europe/Riga", VotesPerVoter: 3, KeyID: key.ID(),
		Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}, {Name: "mobile", Identity: domain.Declared},
			{Name: "in_person", Identity: domain.NoIdentity}},
	})
	return w
}

// newID is an id that was not given out before.
func (w *world) newID(of string) string {
	w.ids++
	return fmt.Sprintf("%s-%d", of, w.ids)
}

// event is one that is recorded now.
func (w *world) event(p domain.Payload) domain.Event {
	return domain.Event{ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(w.newID("notikums"))), Campaign: campaign,
		Time: domain.Timestamp(w.clock), Data: p}
}

// append stores an event, whoever wrote it, and says whether it is new: another
// one may have come first, or the very same.
func (w *world) append(subject string, data []byte, expected uint64) (uint64, bool) {
	w.t.Helper()
	appended, err := w.ledger.Append(context.Background(), eventstore.Message{Subject: subject, Data: data}, expected)
	if errors.Is(err, eventstore.ErrConflict) {
		return 0, false
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if appended.Sequence <= uint64(len(w.log)) {
		return 0, false
	}
	w.last[subject] = appended.Sequence
	e, _ := w.codec.Decode(data)
	w.log = append(w.log, e)
	if e.Data != nil {
		_ = w.register.Apply(appended.Sequence, e) // a forgery may not fit; then nothing knows of it
	}
	return appended.Sequence, true
}

// record stores an event where it belongs.
func (w *world) record(e domain.Event) uint64 {
	w.t.Helper()
	return w.recordOn(domain.Subject(e), w.encode(e))
}

func (w *world) recordOn(subject string, data []byte) uint64 {
	w.t.Helper()
	sequence, ok := w.append(subject, data, w.last[subject])
	if !ok {
		w.t.Fatalf("conflict on %s", subject)
	}
	return sequence
}

func (w *world) encode(e domain.Event) []byte {
	w.t.Helper()
	data, err := domain.Encode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// admin records an event that no voter stands behind, now.
func (w *world) admin(p domain.Payload) uint64 {
	w.t.Helper()
	return w.record(w.event(p))
}

// specialist registers somebody new, whose id ends with the event's sequence.
func (w *world) specialist() string {
	w.t.Helper()
	id := fmt.Sprintf("zanete-kirsone-%d", len(w.log)+1)
	w.admin(domain.SpecialistRegistered{Specialist: id, Profile: domain.Profile{Name: "Žanete Ķirsone", Institution: "Nodarbinātības aģentūra", Branch: "Gulbene"}})
	return id
}

func voter(person string) domain.Pseudonym {
	p, err := key.Voter(person)
	if err != nil {
		panic(err)
	}
	return p
}

// stranger is a pseudonym that nobody has used.
func (w *world) stranger() domain.Pseudonym { return voter(w.newID("Līga Žagare")) }

// ballot is everything that a voter did.
func (w *world) ballot(v domain.Pseudonym) (b domain.Ballot) {
	for i, e := range w.log {
		if owner, ok := voterOf(e.Data); ok && owner == v {
			next, err := b.Evolve(uint64(i+1), e)
			if err != nil {
				w.t.Fatal(err)
			}
			b = next
		}
	}
	return b
}

func voterOf(p domain.Payload) (domain.Pseudonym, bool) {
	switch d := p.(type) {
	case domain.VoteCast:
		return d.Voter, true
	case domain.VoteRetracted:
		return d.Voter, true
	case domain.VoteAnnulled:
		return d.Voter, true
	}
	return domain.Pseudonym{}, false
}

// cast is a vote as an honest intake records it, on the web and now.
func (w *world) cast(v domain.Pseudonym, specialist string) uint64 {
	w.t.Helper()
	return w.record(w.decide(v, specialist, domain.Vote))
}

func (w *world) retract(v domain.Pseudonym, specialist string) uint64 {
	w.t.Helper()
	return w.record(w.decide(v, specialist, domain.Retract))
}

// decide is what an honest intake decides now.
func (w *world) decide(v domain.Pseudonym, specialist string, action domain.Action) domain.Event {
	w.t.Helper()
	d, err := domain.Decide(&w.register, w.ballot(v), domain.Submission{Action: action, Voter: v, Specialist: specialist,
		Channel: "web", ID: w.newID("pieteikums"), RecordedAt: domain.Timestamp(w.clock)})
	if err != nil {
		w.t.Fatal(err)
	}
	return d.Event
}

// annul is an annulment as an honest intake records it, now.
func (w *world) annul(vote uint64) uint64 {
	w.t.Helper()
	v, _ := voterOf(w.log[vote-1].Data)
	d, err := domain.DecideAnnulment(&w.register, w.ballot(v), domain.Annulment{Voter: v, Vote: vote,
		Decision: "VK lēmums Nr. 12/2018", Reason: "Balsis iegūtas negodīgi.", RecordedAt: domain.Timestamp(w.clock)})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.record(d.Event)
}

// ref describes a vote as it is.
func (w *world) ref(vote uint64) domain.VoteRef {
	e := w.log[vote-1]
	d := e.Data.(domain.VoteCast)
	if d.CastAt.IsZero() {
		d.CastAt = e.Time
	}
	return domain.VoteRef{Sequence: vote, Channel: d.Channel, CastAt: d.CastAt}
}

func (w *world) verify() *audit.Report {
	w.t.Helper()
	report, err := audit.Verify(context.Background(), campaign, w.ledger, w.codec, audit.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

// mismatches are all that an audit found, each as "check: event: text".
func mismatches(r *audit.Report) (all []string) {
	for _, c := range r.Checks {
		for _, m := range c.Mismatches {
			all = append(all, fmt.Sprintf("%s: %s", c.Name, m))
		}
	}
	return all
}
