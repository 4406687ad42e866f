package report_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"
	_ "time/tzdata" // days are those in Riga, wherever the tests run

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// letters is a name with every letter of Latvian that ASCII lacks.
const letters = "Āāčēģīķļņšūž ĀČĒĢĪĶĻŅŠŪŽ"

// made is a ledger of events that are made whenever they are read, so that it
// takes no memory however many there are.
type made struct {
	events uint64
	event  func(sequence uint64) domain.Event
	broken func(sequence uint64) error // of reading the event; nil when nothing breaks
}

const madeBatch = 1024

// Replay implements projections.Replayer.
func (m *made) Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error {
	var batch []eventstore.Recorded
	for sequence := from; sequence <= min(to, m.events); sequence++ {
		if m.broken != nil {
			if err := m.broken(sequence); err != nil {
				return err
			}
		}
		data, err := domain.Encode(m.event(sequence))
		if err != nil {
			return fmt.Errorf("event %d: %w", sequence, err)
		}
		batch = append(batch, eventstore.Recorded{Message: eventstore.Message{Data: data}, Sequence: sequence})
		if len(batch) == madeBatch || sequence == min(to, m.events) {
			if err := fn(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return ctx.Err()
}

func codec(tb testing.TB) *domain.Codec {
	tb.Helper()
	c, err := domain.NewCodec()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func (m *made) source(tb testing.TB) report.Source {
	return report.Source{Ledger: m, Codec: codec(tb), Last: m.events}
}

// at is the moment of an RFC 3339 text, as events hold it.
func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return domain.Timestamp(t)
}

// now is when all exports of the tests are made.
var now = at("2019-12-06T09:00:00+02:00")

// story is a ledger that is written event by event.
type story struct {
	tb     testing.TB
	log    []domain.Event
	clock  time.Time
	active map[string]int
}

func newStory(tb testing.TB) *story {
	s := &story{tb: tb, clock: at("2019-10-26T12:00:00+03:00"), active: make(map[string]int)}
	s.add(domain.CampaignOpened{Title: "Laba servisa kustība " + letters, OpensAt: at("2018-11-12T00:00:00+02:00"),
		ClosesAt: at("2019-11-11T00:00:00+02:00"), Timezone: "Europe/Riga", KeyID: "0123456789abcdef",
		Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}, {Name: "slip", Identity: domain.NoIdentity}}})
	return s
}

// add appends an event and returns its sequence.
func (s *story) add(p domain.Payload) uint64 {
	n := uint64(len(s.log) + 1)
	s.log = append(s.log, domain.Event{ID: eventID(n), Campaign: "kustiba", Time: s.clock, Data: p})
	return n
}

func eventID(n uint64) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

func pseudonym(voter string) (p domain.Pseudonym) {
	copy(p[:], voter+"................")
	return p
}

func (s *story) register(id string, p domain.Profile) {
	s.add(domain.SpecialistRegistered{Specialist: id, Profile: p})
}

// vote casts a vote at a moment; the zero moment is that of recording.
func (s *story) vote(voter, specialist, channel string, castAt time.Time) domain.VoteRef {
	s.active[voter]++
	n := s.add(domain.VoteCast{Voter: pseudonym(voter), Specialist: specialist, Channel: channel, CastAt: castAt, Active: s.active[voter]})
	if castAt.IsZero() {
		castAt = s.clock
	}
	return domain.VoteRef{Sequence: n, Channel: channel, CastAt: castAt}
}

func (s *story) retract(voter, specialist string, vote domain.VoteRef) uint64 {
	s.active[voter]--
	return s.add(domain.VoteRetracted{Voter: pseudonym(voter), Specialist: specialist, Channel: vote.Channel, Vote: vote, Active: s.active[voter]})
}

func (s *story) annul(voter, specialist string, vote domain.VoteRef, decision string, afterClose bool) uint64 {
	s.active[voter]--
	return s.add(domain.VoteAnnulled{Voter: pseudonym(voter), Specialist: specialist, Vote: vote, Decision: decision,
		Reason: "Balsis vāktas negodīgi.", Active: s.active[voter], AfterClose: afterClose})
}

func (s *story) ledger() *made {
	return &made{events: uint64(len(s.log)), event: func(n uint64) domain.Event { return s.log[n-1] }}
}

// Moments in the night of 27 October 2019, in which the hour after 03:00 came
// twice in Riga.
var (
	beforeMidnight = at("2019-10-26T23:59:59.999+03:00")
	firstHalf      = at("2019-10-27T03:30:00+03:00")
	secondHalf     = at("2019-10-27T03:30:00+02:00")
)

// wholeStory has all that can become of a vote, names with every letter, and
// names that a spreadsheet would run.
func wholeStory(tb testing.TB) *story {
	s := newStory(tb)
	s.register("ilze", domain.Profile{Name: letters, Position: "konsultante", Institution: "Ķeguma \"Ļaužu\" centrs; Ogre", Branch: "Ģibuļi", Region: "Zemgale"})
	s.register("janis", domain.Profile{Name: `=HYPERLINK("http://x.lv";"Jānis")`, Institution: "-1+1", Branch: "a;=2+2", Region: "@r"})
	s.register("zane", domain.Profile{Name: "Žanete Ņukša", Institution: "+371 klientu centrs"})
	s.register("zane-2", domain.Profile{Name: "Žanete Ņukša", Institution: "+371 klientu centrs"})
	s.vote("anna", "ilze", "web", beforeMidnight)
	s.vote("anna", "janis", "web", firstHalf)
	bruno := s.vote("bruno", "ilze", "web", secondHalf)
	s.vote("", "ilze", "slip", time.Time{})
	cilda := s.vote("cilda", "zane", "web", time.Time{})
	dace := s.vote("dace", "zane-2", "web", time.Time{})
	s.vote("eda", "zane-2", "web", time.Time{})
	s.retract("bruno", "ilze", bruno)
	s.annul("cilda", "zane", cilda, "SIF-2019/7", false)
	s.add(domain.SpecialistUpdated{Specialist: "ilze", Profile: domain.Profile{Name: letters, Institution: "Rēzeknes nodaļa"}})
	s.clock = at("2019-11-11T08:00:00+02:00")
	s.vote("fricis", "ilze", "web", time.Time{})
	s.add(domain.CampaignClosed{})
	s.vote("gunta", "ilze", "web", time.Time{}) // above the fence
	s.annul("dace", "zane-2", dace, "SIF-2019/8", true)
	s.add(domain.SpecialistMerged{Specialist: "zane-2", Into: "zane", Decision: "SIF-2019/9"})
	return s
}
