package domain_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/domain"
)

// votes gives specialists votes by strangers on the web.
func (s *story) votes(specialist string, n int) (last uint64) {
	s.tb.Helper()
	for range n {
		last = s.vote(s.newID(), specialist)
	}
	return last
}

// prize writes a prize as "rank who votes, …; last in, first out" and what
// decided it.
func prize(p domain.Prize) string {
	var lines []string
	for _, w := range p.Winners {
		lines = append(lines, fmt.Sprintf("%d %s %d", w.Rank, w.Candidate, w.Votes))
	}
	text := fmt.Sprintf("%s; %d, %d", strings.Join(lines, ", "), p.LastIn, p.FirstOut)
	if p.Contested > 0 {
		text += fmt.Sprintf("; %d tie for %d", len(p.Tied), p.Contested)
	}
	if p.Decision != 0 {
		text += "; decided"
	}
	if p.Unfit != 0 {
		text += "; undecided"
	}
	return text
}

func TestAwards(t *testing.T) {
	one := domain.AwardRule{Specialists: 1, Letters: 1}
	two := domain.AwardRule{Specialists: 2, Letters: 1}
	branches := domain.AwardRule{Institutions: 1, InstitutionsBy: domain.ByBranch}
	for name, c := range map[string]struct {
		rule  domain.AwardRule
		story func(*story)
		want  [3]string // specialists, institutions, letters
		over  string    // who was passed over
	}{
		"nobody has votes": {rule: two, story: func(*story) {},
			want: [3]string{"; 0, 0", "; 0, 0", "; 0, 0"}},
		"clear": {rule: two,
			story: func(s *story) { s.votes(berzina, 3); s.votes(cirule, 2); s.votes(skele, 1) },
			want:  [3]string{"1 anna-berzina 3, 2 zane-cirule 2; 2, 1", "; 0, 0", "3 nikita-skele 1; 1, 0"}},
		"a tie at first place": {rule: one,
			story: func(s *story) { s.votes(udre, 2); s.votes(cirule, 2); s.votes(skele, 1) },
			want:  [3]string{"1 zane-cirule 2, 1 zanete-udre 2; 2, 1; 2 tie for 1", "; 0, 0", "3 nikita-skele 1; 1, 0"}},
		"a tie above the boundary decides nothing": {rule: two,
			story: func(s *story) { s.votes(udre, 2); s.votes(cirule, 2); s.votes(skele, 1) },
			want:  [3]string{"1 zane-cirule 2, 1 zanete-udre 2; 2, 1", "; 0, 0", "3 nikita-skele 1; 1, 0"}},
		"a tie at the boundaries of award and letters": {rule: domain.AwardRule{Specialists: 1, LettersFrom: 1},
			story: func(s *story) { s.votes(udre, 2); s.votes(cirule, 1); s.votes(skele, 1) },
			want:  [3]string{"1 zanete-udre 2; 2, 1", "; 0, 0", "2 nikita-skele 1, 2 zane-cirule 1; 1, 0"}},
		"letters that tie": {rule: one,
			story: func(s *story) { s.votes(udre, 2); s.votes(cirule, 1); s.votes(skele, 1) },
			want:  [3]string{"1 zanete-udre 2; 2, 1", "; 0, 0", "2 nikita-skele 1, 2 zane-cirule 1; 1, 0; 2 tie for 1"}},
		"letters alone, from a threshold": {rule: domain.AwardRule{LettersFrom: 2},
			story: func(s *story) { s.votes(udre, 2); s.votes(cirule, 1); s.votes(skele, 3) },
			want:  [3]string{"; 0, 0", "; 0, 0", "1 nikita-skele 3, 2 zanete-udre 2; 2, 1"}},
		"fewer than the least votes": {rule: domain.AwardRule{Specialists: 2, Letters: 2, MinimumVotes: 3},
			story: func(s *story) { s.votes(udre, 3); s.votes(cirule, 2) },
			want:  [3]string{"1 zanete-udre 3; 3, 2", "; 0, 0", "; 0, 2"}},
		"slips without identity do not count": {rule: one,
			story: func(s *story) {
				s.votes(udre, 2)
				s.votes(cirule, 1)
				for range 5 {
					s.accept(s.slip(cirule))
				}
			},
			want: [3]string{"1 zanete-udre 2; 2, 1", "; 0, 0", "2 zane-cirule 1; 1, 0"}},
		"slips count where the rule says so": {rule: domain.AwardRule{Specialists: 1, Letters: 1, WithoutIdentity: true},
			story: func(s *story) { s.votes(udre, 1); s.accept(s.slip(cirule)); s.accept(s.slip(cirule)) },
			want:  [3]string{"1 zane-cirule 2; 2, 1", "; 0, 0", "2 zanete-udre 1; 1, 0"}},
		"a withdrawn winner": {rule: one,
			story: func(s *story) {
				s.votes(udre, 3)
				s.votes(cirule, 2)
				s.votes(skele, 1)
				s.admin(domain.SpecialistWithdrawn{Specialist: udre})
			},
			want: [3]string{"1 zane-cirule 2; 2, 1", "; 0, 0", "2 nikita-skele 1; 1, 0"}, over: "specialists zanete-udre 3"},
		"withdrawn with too few votes for the award": {rule: one,
			story: func(s *story) {
				s.votes(udre, 1)
				s.votes(cirule, 2)
				s.votes(skele, 1)
				s.admin(domain.SpecialistWithdrawn{Specialist: udre})
			},
			want: [3]string{"1 zane-cirule 2; 2, 1", "; 0, 0", "2 nikita-skele 1; 1, 0"}, over: "letters zanete-udre 1"},
		"a merged person": {rule: one,
			story: func(s *story) {
				s.votes(udre, 2)
				s.votes(cirule, 1)
				s.votes(skele, 2)
				s.admin(merged(cirule, skele))
			},
			want: [3]string{"1 nikita-skele 3; 3, 2", "; 0, 0", "2 zanete-udre 2; 2, 0"}},
		"institutions that tie": {rule: domain.AwardRule{Institutions: 1, InstitutionsBy: domain.ByInstitution},
			story: func(s *story) { s.votes(berzina, 1); s.votes(cirule, 1); s.votes(skele, 2); s.votes(udre, 1) },
			want: [3]string{"; 0, 0", "1 Nodarbinātības valsts aģentūra 2, 1 Valsts sociālās apdrošināšanas aģentūra 2; 2, 1; 2 tie for 1",
				"; 0, 0"}},
		"a specialist who moved": {rule: branches,
			story: func(s *story) {
				s.votes(berzina, 2)
				s.admin(domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis})
				s.votes(berzina, 3)
			},
			want: [3]string{"; 0, 0", "1 Valsts ieņēmumu dienests / Cēsu klientu apkalpošanas centrs 3; 3, 2", "; 0, 0"}},
		"slips for a branch": {rule: branches,
			story: func(s *story) { s.accept(s.slip(skele)); s.accept(s.slip(skele)); s.votes(udre, 1) },
			want:  [3]string{"; 0, 0", "1 Ceļu satiksmes drošības direkcija / Ķekavas nodaļa 1; 1, 0", "; 0, 0"}},
		"a branch of no institution": {rule: domain.AwardRule{Institutions: 1, InstitutionsBy: domain.ByInstitution},
			story: func(s *story) {
				s.admin(domain.SpecialistRegistered{Specialist: "brivprataiga", Profile: domain.Profile{Name: "Ērika Ģērmane", Branch: "Ķekavas nodaļa"}})
				s.votes("brivprataiga", 3)
				s.votes(skele, 1)
			},
			want: [3]string{"; 0, 0", "1 Valsts sociālās apdrošināšanas aģentūra 1; 1, 0", "; 0, 0"}},
		"who has no institution": {rule: branches,
			story: func(s *story) {
				s.admin(domain.SpecialistRegistered{Specialist: "brivprataiga", Profile: domain.Profile{Name: "Ērika Ģērmane"}})
				s.votes("brivprataiga", 3)
				s.votes(skele, 1)
			},
			want: [3]string{"; 0, 0", "1 Valsts sociālās apdrošināšanas aģentūra / Rēzeknes nodaļa 1; 1, 0", "; 0, 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			c.story(s)
			awards, err := s.tally.Awards(c.rule)
			if err != nil {
				t.Fatal(err)
			}
			if got := [3]string{prize(awards.Specialists), prize(awards.Institutions), prize(awards.Letters)}; got != c.want {
				t.Errorf("the awards are\n%q\nwant\n%q", got, c.want)
			}
			var over []string
			for _, p := range awards.PassedOver {
				over = append(over, fmt.Sprintf("%s %s %d", p.Award, p.Candidate, p.Votes))
			}
			if got := strings.Join(over, ", "); got != c.over {
				t.Errorf("passed over are %q, want %q", got, c.over)
			}
			for _, w := range awards.Specialists.Winners {
				if _, voters := s.votesOf(w.Candidate.Specialist); w.Voters != voters || w.Profile.ID != w.Candidate.Specialist {
					t.Errorf("%+v has %d voters", w, voters)
				}
			}
			if awards.Sequence != uint64(len(s.log)) || awards.Rule != c.rule {
				t.Errorf("they are those of %+v as of event %d", awards.Rule, awards.Sequence)
			}
		})
	}
}

// decided makes a decision that must be possible, and records it.
func (s *story) decided(rule domain.AwardRule, award domain.Award, winners ...string) uint64 {
	s.tb.Helper()
	d, err := s.tally.DecideTie(rule, award, winners, "VK lēmums Nr. 14/2018", "Žūrijas balsojums.")
	if err != nil {
		s.tb.Fatal(err)
	}
	return s.admin(d)
}

// TestDecisions: a decision chooses among those who tie, as long as exactly
// these tie.
func TestDecisions(t *testing.T) {
	rule := domain.AwardRule{Specialists: 1, Institutions: 1, InstitutionsBy: domain.ByBranch, Letters: 1}
	s := newStory(t)
	s.votes(berzina, 1)
	var votes []uint64
	for _, id := range []string{cirule, skele, udre} {
		votes = append(votes, s.votes(id, 2))
	}
	s.close()
	check := func(when, specialists, letters string) {
		t.Helper()
		awards, err := s.tally.Awards(rule)
		if err != nil {
			t.Fatal(err)
		}
		if got := prize(awards.Specialists); got != specialists {
			t.Errorf("%s the awards are %q, want %q", when, got, specialists)
		}
		if got := prize(awards.Letters); got != letters {
			t.Errorf("%s the letters are %q, want %q", when, got, letters)
		}
	}
	check("undecided", "1 nikita-skele 2, 1 zane-cirule 2, 1 zanete-udre 2; 2, 1; 3 tie for 1", "4 anna-berzina 1; 1, 0")
	for says, winners := range map[string][]string{
		`specialists: "anna-berzina" is not one of the 3 who tie with 2 votes`: {cirule, berzina},
		"specialists: 3 tie for 1 places, and the decision gives only 0":       nil,
	} {
		_, err := s.tally.DecideTie(rule, domain.SpecialistAward, winners, "Nr. 1", "Žūrijas balsojums.")
		wantErr(t, err, says)
	}
	_, err := s.tally.DecideTie(rule, domain.Letter, []string{berzina}, "Nr. 1", "Žūrijas balsojums.")
	wantErr(t, err, "letters: nobody ties at the boundary")
	_, err = s.tally.DecideTie(rule, domain.SpecialistAward, []string{cirule}, "", "Žūrijas balsojums.")
	wantErr(t, err, "decision is empty")

	s.decided(rule, domain.SpecialistAward, cirule)
	check("decided", "1 zane-cirule 2; 2, 2; 3 tie for 1; decided", "1 nikita-skele 2, 1 zanete-udre 2; 2, 1; 2 tie for 1")
	more, err := s.tally.Awards(domain.AwardRule{Specialists: 2})
	if got := prize(more.Specialists); err != nil || got != "1 nikita-skele 2, 1 zane-cirule 2, 1 zanete-udre 2; 2, 1; 3 tie for 2; undecided" {
		t.Errorf("with more places than the decision gives: %q, %v", got, err)
	}
	s.decided(rule, domain.Letter, udre)
	check("decided twice", "1 zane-cirule 2; 2, 2; 3 tie for 1; decided", "1 zanete-udre 2; 2, 2; 2 tie for 1; decided")
	s.decided(rule, domain.SpecialistAward, cirule, udre)
	check("decided anew", "1 zane-cirule 2, 1 zanete-udre 2; 2, 2; 3 tie for 1; decided", "1 nikita-skele 2; 2, 1; undecided")

	before := *s.register.Campaign()
	s.annul(votes[1])
	check("with others who tie", "1 zane-cirule 2, 1 zanete-udre 2; 2, 1; 2 tie for 1; undecided", "3 anna-berzina 1, 3 nikita-skele 1; 1, 0; 2 tie for 1; undecided")
	s.annul(votes[0])
	check("without a tie", "1 zanete-udre 2; 2, 1; undecided", "2 anna-berzina 1, 2 nikita-skele 1, 2 zane-cirule 1; 1, 0; 3 tie for 1; undecided")
	if after := s.register.Campaign(); len(before.Decisions) != 3 || !reflect.DeepEqual(before.Decisions, after.Decisions) {
		t.Errorf("the decisions are %+v, they were %+v", after.Decisions, before.Decisions)
	}
}

// TestDecisionAmongBranches: as of an event below it a decision does not count.
func TestDecisionAmongBranches(t *testing.T) {
	rule := domain.AwardRule{Institutions: 1, InstitutionsBy: domain.ByBranch}
	s := newStory(t)
	s.votes(cirule, 1)
	s.votes(skele, 1)
	s.close()
	const gulbene = "Nodarbinātības valsts aģentūra / Gulbenes klientu apkalpošanas centrs"
	sequence := s.decided(rule, domain.InstitutionAward, gulbene)
	var tally domain.Tally
	for i, want := range map[uint64]string{
		sequence - 1: "1 " + gulbene + " 1, 1 Valsts sociālās apdrošināšanas aģentūra / Rēzeknes nodaļa 1; 1, 0; 2 tie for 1",
		sequence:     "1 " + gulbene + " 1; 1, 1; 2 tie for 1; decided",
	} {
		tally = domain.Tally{}
		for j, e := range s.log[:i] {
			if _, err := tally.Apply(uint64(j+1), e); err != nil {
				t.Fatal(err)
			}
		}
		awards, err := tally.Awards(rule)
		if err != nil {
			t.Fatal(err)
		}
		if got := prize(awards.Institutions); got != want {
			t.Errorf("as of event %d: %q, want %q", i, got, want)
		}
	}
	if _, err := tally.Awards(domain.AwardRule{}); err == nil {
		t.Error("a rule that gives nothing is taken")
	}
}

// TestDecisionAmongNamesakes: a text that two can be meant by chooses nobody.
func TestDecisionAmongNamesakes(t *testing.T) {
	s := newStory(t)
	s.admin(domain.SpecialistRegistered{Specialist: "a", Profile: profile("Ādams", "Rīga / Centrs", "", "")})
	s.admin(domain.SpecialistRegistered{Specialist: "b", Profile: profile("Beāte", "Rīga", "Centrs", "")})
	s.votes("a", 1)
	s.votes("b", 1)
	s.close()
	_, err := s.tally.DecideTie(domain.AwardRule{Institutions: 1, InstitutionsBy: domain.ByBranch}, domain.InstitutionAward,
		[]string{"Rīga / Centrs"}, "Nr. 1", "Žūrijas balsojums.")
	wantErr(t, err, `institutions: "Rīga / Centrs" may be either of two who tie`)
}

func TestParseAwardRule(t *testing.T) {
	got, err := domain.ParseAwardRule([]byte(`{"specialists":3,"institutions":1,"institutions_by":"branch","letters":20,"minimum_votes":5,"without_identity":true}`))
	want := domain.AwardRule{Specialists: 3, Institutions: 1, InstitutionsBy: domain.ByBranch, Letters: 20, MinimumVotes: 5, WithoutIdentity: true}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for text, says := range map[string]string{
		``:                                    "award rule: ",
		`null`:                                "award rule is null",
		`{}`:                                  "it gives nothing",
		`{"specialists":0}`:                   "it gives nothing",
		`[]`:                                  "award rule: ",
		`{"specialists":1,"specialists":2}`:   "duplicate",
		`{"specialist":1}`:                    "unknown object member",
		`{"Specialists":1}`:                   "unknown object member",
		`{"specialists":1.5}`:                 "award rule: ",
		`{"specialists":"1"}`:                 "award rule: ",
		`{"specialists":-1}`:                  "specialists is -1, use 0 to 10000",
		`{"specialists":10001}`:               "specialists is 10001",
		`{"letters":10001}`:                   "letters is 10001",
		`{"letters_from":-1}`:                 "letters_from is -1, use 0 to 1000000000",
		`{"letters":1,"letters_from":1}`:      "letters and letters_from exclude each other",
		`{"letters":1,"minimum_votes":-1}`:    "minimum_votes is -1",
		`{"institutions":1}`:                  `institutions_by is "", use "institution" or "branch"`,
		`{"institutions":-1}`:                 "institutions is -1",
		`{"letters":1,"institutions_by":""}x`: "award rule: ",
		`{"institutions":1,"institutions_by":"region"}`:                `institutions_by is "region"`,
		`{"letters":1,"institutions_by":"branch"}`:                     "institutions_by is of no use without institutions",
		`{"letters":1` + strings.Repeat(" ", domain.MaxAwardRuleBytes): "at most 4096 are allowed",
	} {
		_, err := domain.ParseAwardRule([]byte(text))
		wantErr(t, err, says)
	}
}

func TestCandidates(t *testing.T) {
	for c, want := range map[domain.Candidate]string{
		{Specialist: berzina}:                     "anna-berzina",
		{Institution: "Lauku atbalsta dienests"}:  "Lauku atbalsta dienests",
		{Institution: "LAD", Branch: "Gulbene"}:   "LAD / Gulbene",
		{Branch: "Zvans uz vienu tālruņa numuru"}: " / Zvans uz vienu tālruņa numuru",
	} {
		if got := c.String(); got != want {
			t.Errorf("%+v is %q, want %q", c, got, want)
		}
	}
	for _, a := range []domain.Award{domain.SpecialistAward, domain.InstitutionAward, domain.Letter} {
		if got, err := domain.ParseAward(string(a)); err != nil || got != a {
			t.Errorf("%s: %v, %v", a, got, err)
		}
	}
	_, err := domain.ParseAward("medaļa")
	wantErr(t, err, `award "medaļa": use "specialists", "institutions" or "letters"`)
}
