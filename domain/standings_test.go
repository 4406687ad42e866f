package domain_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// table writes standings as "rank name votes/voters".
func table(list []domain.Standing) []string {
	var lines []string
	for _, s := range list {
		lines = append(lines, fmt.Sprintf("%d %s %d/%d", s.Rank, s.Specialist.Name, s.Votes, s.Voters))
	}
	return lines
}

func TestStandings(t *testing.T) {
	s := newStory(t)
	for _, v := range []string{"Ilze", "Jānis"} {
		s.vote(v, udre)
		s.vote(v, cirule)
	}
	s.vote("Līga", skele)
	check := func(when string, want ...string) {
		t.Helper()
		if got := table(s.tally.Standings()); !slices.Equal(got, want) {
			t.Errorf("%s the standings are\n%q\nwant\n%q", when, got, want)
		}
	}
	check("with a tie", "1 Zane Cīrule 2/2", "1 Žanete Ūdre 2/2", "3 Ņikita Šķēle 1/1", "4 Anna Bērziņa 0/0")
	s.accept(s.slip(skele))
	check("with a slip", "1 Ņikita Šķēle 2/1", "1 Zane Cīrule 2/2", "1 Žanete Ūdre 2/2", "4 Anna Bērziņa 0/0")
	s.admin(domain.SpecialistWithdrawn{Specialist: cirule})
	check("after a withdrawal", "1 Ņikita Šķēle 2/1", "1 Žanete Ūdre 2/2", "3 Anna Bērziņa 0/0", "0 Zane Cīrule 2/2")
	s.admin(merged(skele, berzina))
	check("after a merge", "1 Anna Bērziņa 2/1", "1 Žanete Ūdre 2/2", "0 Zane Cīrule 2/2")
	s.admin(merged(udre, berzina))
	check("after two merges", "1 Anna Bērziņa 4/3", "0 Zane Cīrule 2/2")
	s.admin(merged(cirule, berzina))
	check("after all merges", "1 Anna Bērziņa 6/5")
	s.admin(domain.SpecialistWithdrawn{Specialist: berzina})
	check("without anybody", "0 Anna Bērziņa 6/5")
}

// TestLatvianOrder: letters with a caron or a comma are letters of their own,
// a macron only decides between words that are equal without it.
func TestLatvianOrder(t *testing.T) {
	names := []string{
		"Ābele", "Aboltiņš", "Āboltiņš", "Ada", "Cīrule", "Cukurs", "Čakste", "Dārziņš", "Elksne", "Ērgle", "Evarte",
		"Gulbe", "Ģērmane", "Irbe", "Ivars", "Īve", "Kūla", "Ķikure", "Lūse", "Ļaudone", "Nora", "Ņikita Šķēle",
		"Ozols", "Sanita", "Šķēle", "Ūdre", "Uldis", "Zvaigzne", "Žanete Ūdre", "Žubīte",
	}
	s := &story{tb: t, codec: newCodec(t), clock: noon}
	s.admin(opened())
	for i := range names {
		// The order of registration says nothing.
		s.admin(domain.SpecialistRegistered{Specialist: fmt.Sprintf("s%d", i*7%len(names)), Profile: domain.Profile{Name: names[i*7%len(names)]}})
	}
	s.admin(domain.SpecialistRegistered{Specialist: "b-namesake", Profile: domain.Profile{Name: names[0]}})
	s.admin(domain.SpecialistRegistered{Specialist: "a-namesake", Profile: domain.Profile{Name: names[0]}})
	var got []string
	for _, st := range s.tally.Standings() {
		got = append(got, st.Specialist.Name)
		if st.Rank != 1 {
			t.Errorf("%s has rank %d, want 1: nobody has votes", st.Specialist.Name, st.Rank)
		}
	}
	if want := append([]string{names[0], names[0]}, names...); !slices.Equal(got, want) {
		t.Errorf("the order is\n%q\nwant\n%q", got, want)
	}
	if ids := s.tally.Standings()[:3]; ids[0].Specialist.ID != "a-namesake" || ids[1].Specialist.ID != "b-namesake" {
		t.Error("namesakes are not in the order of their ids")
	}
}

// groups writes groups as "rank keys votes".
func groups(tb testing.TB, s *story, by domain.GroupBy) []string {
	tb.Helper()
	list, err := s.tally.Groups(by, riga(tb))
	if err != nil {
		tb.Fatal(err)
	}
	var lines []string
	for _, g := range list {
		if len(g.Keys) != len(by.Columns()) {
			tb.Errorf("%q has keys for the columns %q", g.Keys, by.Columns())
		}
		lines = append(lines, fmt.Sprintf("%d %s %d", g.Rank, strings.Join(g.Keys, " / "), g.Votes))
	}
	return lines
}

func TestGroups(t *testing.T) {
	s := newStory(t)
	s.vote("Ilze", berzina)
	s.vote("Ilze", cirule)
	s.admin(domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis})
	s.vote("Jānis", berzina)
	s.accept(s.slip(skele))
	s.admin(domain.SpecialistRegistered{Specialist: "bez-iestades", Profile: domain.Profile{Name: "Jāna Kļaviņa"}})
	s.admin(domain.SpecialistRegistered{Specialist: "izslegta", Profile: profile("Ērika Ģērmane", "Lauku atbalsta dienests", "", "")})
	s.admin(domain.SpecialistWithdrawn{Specialist: "izslegta"})
	s.admin(domain.SpecialistRegistered{Specialist: "divreiz", Profile: profile("Zane Cīrule", "Zemes dienests", "", "")})
	s.admin(merged("divreiz", cirule))
	for by, want := range map[domain.GroupBy][]string{
		domain.ByInstitution: {
			"1 Nodarbinātības valsts aģentūra 2",
			"2 Valsts ieņēmumu dienests 1",
			"2 Valsts sociālās apdrošināšanas aģentūra 1",
			"4  0",
			"4 Ceļu satiksmes drošības direkcija 0",
		},
		domain.ByBranch: {
			"1 Nodarbinātības valsts aģentūra / Gulbenes klientu apkalpošanas centrs 2",
			"2 Valsts ieņēmumu dienests / Cēsu klientu apkalpošanas centrs 1",
			"2 Valsts sociālās apdrošināšanas aģentūra / Rēzeknes nodaļa 1",
			"4  /  0",
			"4 Ceļu satiksmes drošības direkcija / Ķekavas nodaļa 0",
		},
		domain.ByRegion:  {"1 Vidzeme 3", "2 Latgale 1", "3  0", "3 Rīga 0"},
		domain.ByChannel: {"1 web 3", "2 in_person 1", "3 mobile 0"},
		domain.ByDay:     {"1 2018-05-04 4"},
		domain.ByHour:    {"1 2018-05-04T12:00+03:00 4"},
	} {
		if got := groups(t, s, by); !slices.Equal(got, want) {
			t.Errorf("by %s:\n%q\nwant\n%q", by, got, want)
		}
	}
	for _, by := range []domain.GroupBy{"", "specialist", "Diena", "day "} {
		_, err := s.tally.Groups(by, riga(t))
		wantErr(t, err, "use specialist, institution, branch, region, channel, day or hour")
	}
}

// TestBranchesOfTwoInstitutions are two branches, whatever their names.
func TestBranchesOfTwoInstitutions(t *testing.T) {
	s := newStory(t)
	s.admin(domain.SpecialistRegistered{Specialist: "a", Profile: profile("Ādams", "Rīgas", "dome Centrs", "")})
	s.admin(domain.SpecialistRegistered{Specialist: "b", Profile: profile("Beāte", "Rīgas dome", "Centrs", "")})
	s.vote("Ilze", "a")
	s.vote("Jānis", "a")
	s.vote("Ilze", "b")
	got := groups(t, s, domain.ByBranch)[:2]
	if want := []string{"1 Rīgas / dome Centrs 2", "2 Rīgas dome / Centrs 1"}; !slices.Equal(got, want) {
		t.Errorf("branches are %q, want %q", got, want)
	}
}

// TestDaylightSaving: in Riga the clocks went from 03:00 to 04:00 on 25 March
// 2018 and from 04:00 back to 03:00 on 28 October 2018.
func TestDaylightSaving(t *testing.T) {
	s := newStory(t)
	for i, cast := range []string{
		"2018-10-28T03:30:00+02:00", "2018-10-28T03:30:00+03:00", "2018-10-28T03:59:59.999+03:00", // an hour between them
		"2018-10-28T23:59:59.999+02:00", "2018-10-29T00:00:00+02:00",
		"2018-03-24T23:59:59.999+02:00", "2018-03-25T00:00:00+02:00", "2018-03-25T02:59:00+02:00", "2018-03-25T04:00:00+03:00",
		"2018-03-25T23:59:59.999+03:00", "2018-03-26T00:00:00+03:00",
	} {
		sub := s.submission(domain.Vote, fmt.Sprintf("balsotājs %d", i), berzina)
		sub.At, sub.RecordedAt = at(cast), closesAt
		s.accept(sub)
	}
	if got, want := groups(t, s, domain.ByDay), []string{
		"3 2018-03-24 1", "1 2018-03-25 4", "3 2018-03-26 1", "1 2018-10-28 4", "3 2018-10-29 1",
	}; !slices.Equal(got, want) {
		t.Errorf("days are\n%q\nwant\n%q", got, want)
	}
	if got, want := groups(t, s, domain.ByHour), []string{
		"2018-03-24T23:00+02:00 1", "2018-03-25T00:00+02:00 1", "2018-03-25T02:00+02:00 1", "2018-03-25T04:00+03:00 1",
		"2018-03-25T23:00+03:00 1", "2018-03-26T00:00+03:00 1",
		"2018-10-28T03:00+03:00 2", "2018-10-28T03:00+02:00 1", "2018-10-28T23:00+02:00 1", "2018-10-29T00:00+02:00 1",
	}; !slices.Equal(withoutRank(got), want) {
		t.Errorf("hours are\n%q\nwant\n%q", withoutRank(got), want)
	}
	if utc, err := s.tally.Groups(domain.ByHour, time.UTC); err != nil || utc[0].Keys[0] != "2018-03-24T21:00Z" {
		t.Errorf("hours in UTC are %+v, %v", utc, err)
	}
}

func withoutRank(lines []string) []string {
	var list []string
	for _, l := range lines {
		_, rest, _ := strings.Cut(l, " ")
		list = append(list, rest)
	}
	return list
}

// TestReadingWhileFolding: what was read may be used while the fold goes on;
// the race detector watches.
func TestReadingWhileFolding(t *testing.T) {
	s := newStory(t)
	standings, cells := s.tally.Standings(), s.tally.Cells()
	done := make(chan []string)
	go func() { done <- append(table(standings), fmt.Sprint(cells)) }()
	s.admin(domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis})
	s.admin(domain.SpecialistWithdrawn{Specialist: cirule})
	s.vote("Ilze", berzina)
	if got, want := <-done, append(table(newStory(t).tally.Standings()), "[]"); !reflect.DeepEqual(got, want) {
		t.Errorf("standings have become %q, want %q", got, want)
	}
}
