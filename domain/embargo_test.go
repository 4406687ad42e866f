package domain_test

import (
	"testing"

	"sakipaldies.lv/ledger/domain"
)

// life is a register that has just been opened, with one specialist.
type life struct {
	t        *testing.T
	register domain.Register
}

func newLife(t *testing.T) *life {
	l := &life{t: t}
	l.add(opened(), domain.SpecialistRegistered{Specialist: berzina, Profile: inGulbene})
	return l
}

func (l *life) try(p domain.Payload) error {
	return l.register.Apply(l.register.Position()+1, domain.Event{Campaign: campaignID, Time: noon, Data: p})
}

func (l *life) add(payloads ...domain.Payload) {
	l.t.Helper()
	for _, p := range payloads {
		if err := l.try(p); err != nil {
			l.t.Fatal(err)
		}
	}
}

// certified certifies the results as of an event.
func certified(sequence uint64) domain.ResultsCertified {
	return domain.ResultsCertified{Sequence: sequence, TallyDigest: "00"}
}

// TestEmbargo: what each role may be told at every step of a campaign's life.
func TestEmbargo(t *testing.T) {
	l := newLife(t)
	for _, step := range []struct {
		name   string
		events []domain.Payload
		public uint64 // the event as of which counts are public then
	}{
		{"open", nil, 0},
		{"closed by event 3", []domain.Payload{domain.CampaignClosed{}}, 0},
		{"certified by event 4", []domain.Payload{certified(2)}, 0},
		{"published", []domain.Payload{domain.ResultsPublished{Certified: 4}}, 2},
		{"corrected by event 6", []domain.Payload{domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis}}, 2},
		{"certified anew by event 7", []domain.Payload{certified(6)}, 2},
		{"published anew", []domain.Payload{domain.ResultsPublished{Certified: 7}}, 6},
		{"archived", []domain.Payload{domain.CampaignArchived{}}, 6},
	} {
		l.add(step.events...)
		for _, role := range append([]domain.Role{"", "kaut-kas"}, domain.Roles...) {
			d := l.register.Campaign().Discloses(role)
			for _, sequence := range []uint64{0, 1, 2, 3, 5, 6, 7, 1 << 62} {
				want := role == domain.RoleChancellery || sequence > 0 && sequence == step.public
				if d.Allows(sequence) != want {
					t.Errorf("%s: role %q, as of event %d: %v", step.name, role, sequence, !want)
				}
			}
		}
	}
}

// TestPublicationOfNothing: a publication that names no certification, or one of
// what lies above it, makes nothing public.
func TestPublicationOfNothing(t *testing.T) {
	for _, c := range []struct{ certified, published uint64 }{{2, 2}, {2, 1}, {4, 4}, {9, 4}} {
		l := newLife(t)
		l.add(domain.CampaignClosed{}, certified(c.certified), domain.ResultsPublished{Certified: c.published})
		if got := l.register.Campaign().Public; got != (domain.PublicResults{}) {
			t.Errorf("event 4 certifies event %d, event %d is published: %+v is public", c.certified, c.published, got)
		}
	}
}

// TestPublishedOnce: what is public is not published again, nor what came before
// it.
func TestPublishedOnce(t *testing.T) {
	l := newLife(t)
	l.add(domain.CampaignClosed{}, certified(2), certified(3), domain.ResultsPublished{Certified: 5})
	for _, event := range []uint64{3, 4, 5, 6} {
		if err := l.try(domain.ResultsPublished{Certified: event}); err == nil {
			t.Errorf("after event 5 event %d was published", event)
		}
	}
	l.add(certified(6), domain.ResultsPublished{Certified: 4})
	if got := l.register.Campaign().Public; got != (domain.PublicResults{Certification: 5, Sequence: 3}) {
		t.Errorf("an older certification was published, and %+v is public", got)
	}
}
