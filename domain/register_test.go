package domain_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"sakipaldies.lv/ledger/domain"
)

func TestRegister(t *testing.T) {
	s := newStory(t)
	moved := s.admin(domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis})
	withdrawn := s.admin(domain.SpecialistWithdrawn{Specialist: udre, Reason: "Pašas lūgums."})
	s.vote("Ilze", cirule) // a register passes over votes

	anna, _ := s.register.Specialist(berzina)
	zanete, _ := s.register.Specialist(udre)
	switch {
	case anna.Profile != inCesis || anna.Registered != 2 || anna.Last != moved || anna.Withdrawn:
		t.Errorf("after the move: %+v", anna)
	case !zanete.Withdrawn || zanete.Last != withdrawn || zanete.Name != "Žanete Ūdre":
		t.Errorf("after the withdrawal: %+v", zanete)
	case s.register.Position() != uint64(len(s.log)):
		t.Errorf("position is %d after %d events", s.register.Position(), len(s.log))
	}
	var ids []string
	for _, sp := range s.register.Specialists() {
		ids = append(ids, sp.ID)
	}
	if want := []string{berzina, cirule, skele, udre}; !reflect.DeepEqual(ids, want) {
		t.Errorf("specialists are %q, want %q", ids, want)
	}
	if sp, ok := s.register.Specialist("nav-tadas"); ok {
		t.Errorf("an unknown specialist is %+v", sp)
	}
}

func TestMerges(t *testing.T) {
	s := newStory(t)
	merge := func(from, into string) domain.SpecialistMerged {
		return domain.SpecialistMerged{Specialist: from, Into: into, Decision: "Reģistrēta divreiz."}
	}
	if got := s.register.Canonical(berzina); got != berzina {
		t.Errorf("before any merge the votes of %s count for %s", berzina, got)
	}
	s.admin(merge(berzina, cirule))
	s.admin(merge(cirule, skele))
	for _, id := range []string{berzina, cirule, skele} {
		if got := s.register.Canonical(id); got != skele {
			t.Errorf("votes of %s count for %s, want %s", id, got, skele)
		}
	}
	if got := s.register.Canonical("nav-tadas"); got != "nav-tadas" {
		t.Errorf("votes of an unknown specialist count for %s", got)
	}
	for says, d := range map[string]domain.SpecialistMerged{
		"was merged into":                 merge(berzina, udre),
		"nav-tadas is not registered":     merge("nav-tadas", udre),
		"nav-tadas-ari is not registered": merge(udre, "nav-tadas-ari"),
	} {
		wantErr(t, s.register.Apply(99, s.event(d)), says)
	}
	sequence := s.admin(merge(skele, berzina)) // closes a circle of three
	for _, id := range []string{berzina, cirule, skele} {
		if got := s.register.Canonical(id); got != skele {
			t.Errorf("behind the circle the votes of %s count for %s, want %s", id, got, skele)
		}
	}
	if sp, _ := s.register.Specialist(skele); sp.Last != sequence || sp.MergedInto != "" {
		t.Errorf("behind the circle %s is %+v", skele, sp)
	}
	s.admin(merge(skele, udre))
	if got := s.register.Canonical(berzina); got != udre {
		t.Errorf("after three merges the votes of %s count for %s", berzina, got)
	}
}

// TestSpecialistsAboveTheArchiving: what was under way then changes nothing, even
// where below the archiving it would be an error.
func TestSpecialistsAboveTheArchiving(t *testing.T) {
	s := newStory(t)
	s.vote("Ilze", berzina)
	s.close()
	for _, step := range []domain.Payload{domain.ResultsCertified{Sequence: 7, TallyDigest: "00"}, domain.ResultsPublished{Certified: 8}, domain.CampaignArchived{}} {
		s.admin(step)
	}
	before, cells := fmt.Sprintf("%+v", table(s.tally.Standings())), s.tally.Cells()
	for i, late := range []domain.Payload{
		domain.SpecialistRegistered{Specialist: "vela-vita", Profile: inCesis},
		domain.SpecialistRegistered{Specialist: berzina, Profile: inCesis},
		domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis},
		domain.SpecialistUpdated{Specialist: "vela-vita", Profile: inGulbene},
		domain.SpecialistWithdrawn{Specialist: berzina},
		domain.SpecialistMerged{Specialist: berzina, Into: cirule, Decision: "Reģistrēta divreiz."},
	} {
		sequence := s.admin(late)
		if after := fmt.Sprintf("%+v", table(s.tally.Standings())); after != before || !reflect.DeepEqual(s.tally.Cells(), cells) {
			t.Errorf("after %+v the standings are\n%s\nthey were\n%s", late, after, before)
		}
		if s.tally.Void() != int64(i+1) || s.register.Position() != sequence {
			t.Errorf("after %+v %d events are void, the register is as of event %d", late, s.tally.Void(), s.register.Position())
		}
	}
	if _, ok := s.register.Specialist("vela-vita"); ok {
		t.Error("somebody was registered above the archiving")
	}
}

func TestRegisterRefuses(t *testing.T) {
	s := newStory(t)
	before := s.register.Clone()
	foreign := s.event(domain.CampaignClosed{})
	foreign.Campaign = "cita-kampana"
	last := s.register.Position()
	for _, c := range []struct {
		sequence uint64
		event    domain.Event
		says     string
	}{
		{last, s.event(domain.CampaignClosed{}), "folded in order"},
		{1, s.event(domain.CampaignClosed{}), "folded in order"},
		{0, s.event(domain.CampaignClosed{}), "folded in order"},
		{last + 1, foreign, "belongs to campaign cita-kampana"},
		{last + 1, s.event(opened()), "opened a second time"},
		{last + 1, s.event(domain.SpecialistRegistered{Specialist: berzina, Profile: inGulbene}), "registered a second time"},
		{last + 1, s.event(domain.SpecialistUpdated{Specialist: "nav-tadas", Profile: inGulbene}), "nav-tadas is not registered"},
		{last + 1, s.event(domain.SpecialistWithdrawn{Specialist: "nav-tadas"}), "nav-tadas is not registered"},
	} {
		err := s.register.Apply(c.sequence, c.event)
		wantErr(t, err, c.says)
		wantErr(t, err, fmt.Sprintf("event %d", c.sequence))
		if !reflect.DeepEqual(&s.register, before) {
			t.Errorf("%s: the register has changed", c.says)
		}
	}
	if err := s.register.Apply(last+100, s.event(domain.CampaignClosed{})); err != nil {
		t.Errorf("a gap is refused: %v", err) // voters' events are not shown to every register
	}
}

// TestNothingBeforeTheCampaign: the first event of a ledger opens it.
func TestNothingBeforeTheCampaign(t *testing.T) {
	for _, e := range samples() {
		var r domain.Register
		err := r.Apply(1, e)
		if _, opens := e.Data.(domain.CampaignOpened); opens != (err == nil) {
			t.Errorf("%T as the first event: %v", e.Data, err)
		}
	}
}

// TestCloneIsIndependent changes a clone, then the original, in every way.
func TestCloneIsIndependent(t *testing.T) {
	change := func(s *story, r *domain.Register) {
		t.Helper()
		limit := 9
		for i, d := range []domain.Payload{
			domain.CampaignAmended{Title: "Cits nosaukums", VotesPerVoter: &limit, AddChannels: []domain.Channel{{Name: "kiosks", Identity: domain.Declared}}},
			domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis},
			domain.SpecialistWithdrawn{Specialist: cirule},
			domain.SpecialistMerged{Specialist: skele, Into: udre, Decision: "Nr. 1"},
			domain.SpecialistRegistered{Specialist: "jauna", Profile: profile("Jāna Kļaviņa", "", "", "")},
			domain.CampaignClosed{},
		} {
			if err := r.Apply(r.Position()+uint64(i)+1, s.event(d)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, pristine := newStory(t, votesPerVoter(3)), newStory(t, votesPerVoter(3))
	clone := s.register.Clone()
	change(s, clone)
	if !reflect.DeepEqual(&s.register, &pristine.register) {
		t.Error("a change of the clone changes the original")
	}
	clone = s.register.Clone()
	change(s, &s.register)
	if !reflect.DeepEqual(clone, &pristine.register) {
		t.Error("a change of the original changes the clone")
	}
	empty := new(domain.Register).Clone()
	if err := empty.Apply(1, s.log[0]); err != nil {
		t.Errorf("a clone of an empty register: %v", err)
	}
}

// TestClonesShareNoRoom: what two clones append stays apart.
func TestClonesShareNoRoom(t *testing.T) {
	s := newStory(t)
	addChannel := func(name string) domain.CampaignAmended {
		return domain.CampaignAmended{AddChannels: []domain.Channel{{Name: name, Identity: domain.Declared}}}
	}
	s.admin(addChannel("kiosks")) // now there is room behind the list
	one, two := s.register.Clone(), s.register.Clone()
	for r, name := range map[*domain.Register]string{one: "pasts", two: "telefons"} {
		if err := r.Apply(99, s.event(addChannel(name))); err != nil {
			t.Fatal(err)
		}
	}
	names := func(r *domain.Register) (list []string) {
		for _, ch := range r.Campaign().Channels {
			list = append(list, ch.Name)
		}
		return list
	}
	common := []string{"web", "mobile", "in_person", "kiosks"}
	for r, want := range map[*domain.Register][]string{&s.register: common, one: append(slices.Clip(common), "pasts"), two: append(slices.Clip(common), "telefons")} {
		if got := names(r); !slices.Equal(got, want) {
			t.Errorf("channels are %q, want %q", got, want)
		}
	}
}

func TestRegisterKeepsItsOwnChannels(t *testing.T) {
	var r domain.Register
	open := opened()
	if err := r.Apply(1, domain.Event{Campaign: campaignID, Time: noon, Data: open}); err != nil {
		t.Fatal(err)
	}
	open.Channels[0].Name = "cits"
	if _, ok := r.Campaign().Channel("web"); !ok {
		t.Error("the caller's list of channels is the register's")
	}
}

// TestSpecialistsDoNotChange: who was given a specialist may read it while the
// register goes on.
func TestSpecialistsDoNotChange(t *testing.T) {
	s := newStory(t)
	standings, list := s.tally.Standings(), s.register.Specialists()
	anna := *list[0]
	s.admin(domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis})
	s.admin(domain.SpecialistWithdrawn{Specialist: berzina})
	s.admin(domain.SpecialistMerged{Specialist: berzina, Into: cirule, Decision: "Nr. 1"})
	if !reflect.DeepEqual(*list[0], anna) {
		t.Errorf("%+v has become %+v", anna, *list[0])
	}
	for _, st := range standings {
		if st.Specialist.Withdrawn || st.Specialist.MergedInto != "" {
			t.Errorf("standings have changed: %+v", st.Specialist)
		}
	}
}
