package audit_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
)

// usualRule is what `audit velocity` looks for by default.
var usualRule = audit.BurstRule{Hours: 1, Minimum: 20, Factor: 5, Top: 20}

// putBack is the second of the two hours that were both called three to four in
// Riga on 27 October 2019.
var putBack = time.Date(2019, 10, 27, 1, 0, 0, 0, time.UTC)

// autumn is a campaign of eight weeks in which residents vote by day, more on
// workdays, for some specialists more than for others.
type autumn struct {
	t           *testing.T
	random      *rand.Rand
	specialists []string
	votes       []vote
}

type vote struct {
	specialist, channel string
	recorded, cast      time.Time
}

func newAutumn(t *testing.T) *autumn {
	t.Helper()
	a := &autumn{t: t, random: rand.New(rand.NewPCG(20191027, 0)),
		specialists: []string{"anna-zvirbule", "girts-kaukis", "janis-ciekurs", "liga-zagare", "eriks-ivins", "zane-cirule", "ilze-berzina", "karlis-ozols"}}
	riga, err := time.LoadLocation("Europe/Riga")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2019, 9, 15, 21, 0, 0, 0, time.UTC)
	for hour := begin; hour.Before(begin.AddDate(0, 0, 56)); hour = hour.Add(time.Hour) {
		local := hour.In(riga)
		busy := 3 * max(0, math.Sin(float64(local.Hour()-6)/16*math.Pi)) // from six to ten in the evening
		if day := local.Weekday(); day == time.Saturday || day == time.Sunday {
			busy /= 2
		}
		for i, specialist := range a.specialists {
			a.add(a.poisson(busy*3/float64(i+1)+0.05), specialist, "web", hour)
			a.add(a.poisson(busy/float64(i+1)+0.02), specialist, "mobile", hour)
		}
	}
	return a
}

// poisson is a random number by Knuth's multiplication.
func (a *autumn) poisson(mean float64) (n int) {
	for p := a.random.Float64(); p > math.Exp(-mean); p *= a.random.Float64() {
		n++
	}
	return n
}

// add lets votes come in within an hour, cast as they are recorded.
func (a *autumn) add(n int, specialist, channel string, hour time.Time) {
	for range n {
		at := hour.Add(time.Duration(a.random.Int64N(int64(time.Hour))))
		a.votes = append(a.votes, vote{specialist, channel, at, time.Time{}})
	}
}

// rush is a broadcast: for some hours all have many times their votes.
func (a *autumn) rush(begin time.Time, hours int) {
	for hour := range hours {
		for i, specialist := range a.specialists {
			a.add(a.poisson(240/float64(i+1)), specialist, "web", begin.Add(time.Duration(hour)*time.Hour))
		}
	}
}

// bursts counts the votes, in whatever order they came, and wants the number of
// votes in each burst to be the one that a search through all votes finds.
func (a *autumn) bursts(by audit.Moment, rule audit.BurstRule) []audit.Burst {
	a.t.Helper()
	v, sequence := audit.NewVelocity(by), uint64(0)
	apply := func(at time.Time, p domain.Payload) {
		sequence++
		if err := v.Apply(sequence, domain.Event{Campaign: campaign, Time: at, Data: p}); err != nil {
			a.t.Fatal(err)
		}
	}
	apply(opensAt, domain.CampaignOpened{Title: "Laba servisa kustība", OpensAt: opensAt, ClosesAt: closesAt, Timezone: "Europe/Riga",
		Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}, {Name: "mobile", Identity: domain.Verified}, {Name: "in_person", Identity: domain.NoIdentity}}})
	for _, id := range a.specialists {
		apply(opensAt, domain.SpecialistRegistered{Specialist: id, Profile: domain.Profile{Name: id}})
	}
	for _, one := range a.votes {
		apply(one.recorded, domain.VoteCast{Specialist: one.specialist, Channel: one.channel, CastAt: one.cast, Active: 1})
	}
	found, err := v.Bursts(a.t.Context(), rule)
	if err != nil || found.Cut {
		a.t.Fatal(found.Cut, err)
	}
	bursts, windows := found.Bursts, found.Windows
	a.t.Logf("%d votes, %d windows, %d bursts", len(a.votes), windows, len(bursts))
	for _, b := range bursts {
		a.t.Logf("%s %s %s: %d votes, expected %.1f and %.1f, 10^%.0f", b.Specialist, b.Channel, b.From.Format(domain.HourLayout), b.Votes, b.Own, b.Peers, b.Log10P)
		if b.To.Sub(b.From) != time.Duration(rule.Hours)*time.Hour {
			a.t.Errorf("the window ends at %v", b.To)
		}
		if n := a.within(by, b); n != b.Votes {
			a.t.Errorf("the burst says %d votes, its window has %d", b.Votes, n)
		}
	}
	return bursts
}

// within counts the votes of a burst's window.
func (a *autumn) within(by audit.Moment, b audit.Burst) (n int64) {
	for _, one := range a.votes {
		at := one.recorded
		if by == audit.CastAt && !one.cast.IsZero() {
			at = one.cast
		}
		if one.specialist == b.Specialist && one.channel == b.Channel && !at.Before(b.From) && at.Before(b.To) {
			n++
		}
	}
	return n
}

// want is where a burst begins.
type want struct {
	specialist, channel string
	from                time.Time
}

func (a *autumn) wantBursts(got []audit.Burst, wanted ...want) {
	a.t.Helper()
	if len(got) != len(wanted) {
		a.t.Fatalf("%d bursts, want %d", len(got), len(wanted))
	}
	for i, w := range wanted {
		if (want{got[i].Specialist, got[i].Channel, got[i].From}) != w {
			a.t.Errorf("burst %d is %+v, want %+v", i+1, got[i], w)
		}
	}
}

func TestUsualDaysHaveNoBurst(t *testing.T) {
	a := newAutumn(t)
	for _, hours := range []int{1, 6, 24} {
		rule := usualRule
		rule.Hours = hours
		a.wantBursts(a.bursts(audit.RecordedAt, rule))
	}
}

func TestBurstIsFoundFirst(t *testing.T) {
	night := time.Date(2019, 10, 8, 0, 0, 0, 0, time.UTC)
	busiest := time.Date(2019, 10, 9, 11, 0, 0, 0, time.UTC)
	for _, hour := range []time.Time{night, busiest} {
		for _, specialist := range []string{"anna-zvirbule", "karlis-ozols"} {
			a := newAutumn(t)
			a.add(300, specialist, "web", hour)
			a.wantBursts(a.bursts(audit.RecordedAt, usualRule), want{specialist, "web", hour})
		}
	}
}

// TestRushIsNoBurst: after a broadcast all have more votes. Who has still more is
// found, even then.
func TestRushIsNoBurst(t *testing.T) {
	evening := time.Date(2019, 10, 15, 17, 0, 0, 0, time.UTC)
	a := newAutumn(t)
	a.rush(evening, 3)
	a.wantBursts(a.bursts(audit.RecordedAt, usualRule))
	a.add(300, "ilze-berzina", "web", evening.Add(time.Hour))
	a.wantBursts(a.bursts(audit.RecordedAt, usualRule), want{"ilze-berzina", "web", evening.Add(time.Hour)})
}

// TestPraisedAroundTheClock: who has votes also while all others sleep has them
// as always.
func TestPraisedAroundTheClock(t *testing.T) {
	a := newAutumn(t)
	for hour := range 56 * 24 {
		a.add(30+hour%5, "karlis-ozols", "web", time.Date(2019, 9, 15, 21+hour, 0, 0, 0, time.UTC))
	}
	rule := usualRule
	rule.Specialist = "karlis-ozols"
	a.wantBursts(a.bursts(audit.RecordedAt, rule))
	a.add(300, "karlis-ozols", "web", putBack)
	a.wantBursts(a.bursts(audit.RecordedAt, rule), want{"karlis-ozols", "web", putBack})
}

// TestBurstsDoNotHideEachOther: many bursts raise what is usual, for the one who
// has them and, in comparison, for the others. All are found and nothing else.
func TestBurstsDoNotHideEachOther(t *testing.T) {
	a := newAutumn(t)
	var wanted []want
	for i := range 12 {
		hour := time.Date(2019, 9, 20+3*i, i, 0, 0, 0, time.UTC)
		a.add(600-20*i, "zane-cirule", "web", hour)
		wanted = append(wanted, want{"zane-cirule", "web", hour})
	}
	a.add(40, "ilze-berzina", "web", wanted[0].from) // in the shadow of the largest one
	got := a.bursts(audit.RecordedAt, usualRule)
	if len(got) != 13 {
		t.Fatalf("%d bursts, want 13", len(got))
	}
	seen := make(map[want]bool)
	for _, b := range got {
		seen[want{b.Specialist, b.Channel, b.From}] = true
	}
	for _, w := range append(wanted, want{"ilze-berzina", "web", wanted[0].from}) {
		if !seen[w] {
			t.Errorf("%+v was not found", w)
		}
	}
	rule := usualRule
	rule.Top = 3
	if top := a.bursts(audit.RecordedAt, rule); len(top) != 3 || top[2] != got[2] {
		t.Errorf("the first three are not the first three of all: %+v", top)
	}
	rule.Specialist = "ilze-berzina"
	a.wantBursts(a.bursts(audit.RecordedAt, rule), want{"ilze-berzina", "web", wanted[0].from})
}

func TestTheHourThatComesTwiceIsTwo(t *testing.T) {
	a := newAutumn(t)
	a.add(300, "eriks-ivins", "mobile", putBack.Add(-time.Hour))
	a.add(200, "eriks-ivins", "mobile", putBack)
	a.wantBursts(a.bursts(audit.RecordedAt, usualRule),
		want{"eriks-ivins", "mobile", putBack.Add(-time.Hour)}, want{"eriks-ivins", "mobile", putBack})
}

// TestSlowBurst: who stuffs slowly is found with a longer window.
func TestSlowBurst(t *testing.T) {
	a, begin := newAutumn(t), time.Date(2019, 10, 2, 20, 0, 0, 0, time.UTC)
	for hour := range 8 {
		a.add(15, "karlis-ozols", "web", begin.Add(time.Duration(hour)*time.Hour))
	}
	a.wantBursts(a.bursts(audit.RecordedAt, usualRule))
	rule := usualRule
	rule.Hours = 8
	a.wantBursts(a.bursts(audit.RecordedAt, rule), want{"karlis-ozols", "web", begin})
}

// TestSlips: what a desk enters in one evening came in as a burst, and was cast on
// many days, or so the desk says.
func TestSlips(t *testing.T) {
	a, evening := newAutumn(t), time.Date(2019, 10, 31, 16, 0, 0, 0, time.UTC)
	slips := func(n int, specialist string, entered time.Time) {
		for i := range n {
			a.votes = append(a.votes, vote{specialist, "in_person", entered.Add(time.Duration(i) * time.Second), entered.Add(-time.Duration(i%400) * time.Hour)})
		}
	}
	for day := range 20 {
		for _, specialist := range a.specialists {
			slips(10, specialist, evening.AddDate(0, 0, day-10).Add(time.Hour))
		}
	}
	slips(400, "liga-zagare", evening)
	a.wantBursts(a.bursts(audit.RecordedAt, usualRule), want{"liga-zagare", "in_person", evening})
	a.wantBursts(a.bursts(audit.CastAt, usualRule))
}

// TestNothingToCompareWith: of a campaign that came in within one hour nobody can
// say what is usual.
func TestNothingToCompareWith(t *testing.T) {
	a := newAutumn(t)
	for i := range a.votes {
		a.votes[i].cast, a.votes[i].recorded = a.votes[i].recorded, putBack
	}
	a.wantBursts(a.bursts(audit.RecordedAt, usualRule))
	alone := &autumn{t: t, random: a.random, specialists: []string{"anna-zvirbule"}}
	alone.add(3, "anna-zvirbule", "web", putBack.AddDate(0, 0, -1))
	alone.add(300, "anna-zvirbule", "web", putBack)
	alone.wantBursts(alone.bursts(audit.RecordedAt, usualRule))
}

func TestBurstRuleHasLimits(t *testing.T) {
	for what, change := range map[string]func(*audit.BurstRule){
		"no hour":         func(r *audit.BurstRule) { r.Hours = 0 },
		"hours":           func(r *audit.BurstRule) { r.Hours = audit.MaxBurstHours + 1 },
		"no vote":         func(r *audit.BurstRule) { r.Minimum = 0 },
		"as usual":        func(r *audit.BurstRule) { r.Factor = 1 },
		"not a number":    func(r *audit.BurstRule) { r.Factor = math.NaN() },
		"none of them":    func(r *audit.BurstRule) { r.Top = 0 },
		"too many bursts": func(r *audit.BurstRule) { r.Top = audit.MaxBursts + 1 },
	} {
		rule := usualRule
		change(&rule)
		if _, err := audit.NewVelocity(audit.RecordedAt).Bursts(t.Context(), rule); err == nil {
			t.Errorf("%s: %+v is accepted", what, rule)
		}
	}
	if _, err := audit.ParseMoment("kad"); err == nil {
		t.Error("a time that a vote does not have is accepted")
	}
}

// crowd has a burst for each of more specialists than a search looks at, the
// smallest for the last one, and one who has no votes.
func crowd(t *testing.T) *audit.Velocity {
	v, sequence := audit.NewVelocity(audit.RecordedAt), uint64(0)
	apply := func(at time.Time, p domain.Payload) {
		t.Helper()
		sequence++
		if err := v.Apply(sequence, domain.Event{Campaign: campaign, Time: at, Data: p}); err != nil {
			t.Fatal(err)
		}
	}
	apply(opensAt, domain.CampaignOpened{})
	for i := range audit.MaxBursts + 1 {
		n := 22
		if i == audit.MaxBursts {
			n = 20
		}
		for range n {
			apply(opensAt.Add(time.Duration(i)*time.Hour), domain.VoteCast{Specialist: fmt.Sprintf("s%04d", i), Channel: "web"})
		}
	}
	return v
}

// TestCutSearch: a search that ends at its limit says so, and one that has nothing
// to find does not begin.
func TestCutSearch(t *testing.T) {
	v, rule := crowd(t), usualRule
	for specialist, cut := range map[string]bool{fmt.Sprintf("s%04d", audit.MaxBursts): true, "bez-balsim": false} {
		rule.Specialist = specialist
		if found, err := v.Bursts(t.Context(), rule); err != nil || found.Cut != cut || len(found.Bursts) != 0 {
			t.Errorf("%s: cut %v, %d bursts, %v", specialist, found.Cut, len(found.Bursts), err)
		}
	}
	rule.Specialist, rule.Top = "", audit.MaxBursts
	if found, err := v.Bursts(t.Context(), rule); err != nil || found.Cut || len(found.Bursts) != audit.MaxBursts {
		t.Errorf("for all: cut %v, %d bursts, %v", found.Cut, len(found.Bursts), err)
	}
}

// TestSearchEnds with its context.
func TestSearchEnds(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := crowd(t).Bursts(ctx, usualRule); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

// TestVelocityKeepsHours: what is kept does not grow with the votes.
func TestVelocityKeepsHours(t *testing.T) {
	v, at := audit.NewVelocity(audit.RecordedAt), putBack
	if err := v.Apply(1, domain.Event{Campaign: campaign, Time: at, Data: domain.CampaignOpened{}}); err != nil {
		t.Fatal(err)
	}
	sequence := uint64(1)
	apply := func(specialist string) {
		sequence++
		if err := v.Apply(sequence, domain.Event{Campaign: campaign, Time: at, Data: domain.VoteCast{Specialist: specialist, Channel: "web"}}); err != nil {
			t.Fatal(err)
		}
	}
	ids := make([]string, 10)
	for i := range ids {
		ids[i] = fmt.Sprintf("s%d", i)
		apply(ids[i])
	}
	if allocated := testing.AllocsPerRun(1000, func() {
		for _, id := range ids {
			apply(id)
		}
	}); allocated > float64(len(ids)) { // an event's payload in its interface
		t.Errorf("%v allocations for %d votes in known hours", allocated, len(ids))
	}
}
