// Package audit checks a campaign's ledger from its first event on, without
// trusting who wrote it: every rule again, every count again.
//
// It imports the core only, never intake or the dashboard. Its recount is
// written apart from domain.Tally, in the plainest way: votes are kept by
// ballot and counted at the end.
//
// What is honest although it looks odd is listed and not held against anyone:
// votes that were under way while the campaign was closed lie above the close
// and count for nothing, and so do annulments and events about specialists above
// the archiving; a vote may be recorded just after a withdrawal or a
// merge that its intake had not heard of, and counts. Only the times that
// events state can tell such a vote from one that was slipped in later, so
// these times are held against each other: from the next event on, nobody can
// go back in time by more than clocks may differ.
//
// A forgery is held against the event that is forged. Ballots are therefore
// kept as intake sees them, forged votes included: what intake honestly
// decides on top of a forgery is no second mismatch.
//
// The end of a campaign is checked as its beginning is. Results are counted again
// as of the event that each certification names, and compared by their digest;
// the root that it names must be that of the events; corrections form a chain,
// and what is published is its end. A merge that was not finished is the state of
// some ballots, and is reported as such.
//
// What an audit of the events alone cannot see: a voter whom somebody
// invented, a retraction that the voter never sent, an event that never
// arrived, and a ledger that was rewritten as a whole. The last of these shows
// against what was signed (Seal): a log in a folder, or a checkpoint that somebody
// has kept.
//
// Bundles of 256 events are decoded and hashed on all processors and checked one
// after the other. Measured on 2 cores by
//
//	go test -run xxx -bench VerifyFolder -benchtime 3x -votes 1000000 ./cmd/internal/audit
//	go test -run xxx -bench VerifyLedger -benchtime 3x -votes 500000 ./cmd/internal/audit
//
// from a folder, all checks and all files included: 600,000 events/s, 3.7 times
// as long as it takes one processor to do nothing but hash the same bytes; 116
// bytes a vote are live at the end, 174 the most that the heap took. From NATS,
// with subjects: 0.4 of a bare ordered consumer. Every signed checkpoint takes some 50 µs of
// one processor besides: a log in which each of a million votes has one of its
// own is verified in half a minute.
package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// maxRace is how far the times of two events may contradict their order, as a
// duration. The clocks of two intakes may differ by domain.MaxClockSkew, and an
// append may take the better part of a minute while a new leader is elected.
const maxRace = domain.MaxClockSkew + time.Minute

// ErrNotOpened says that a campaign's ledger has no event at all, so that there
// is nothing to check.
var ErrNotOpened = errors.New("it was not opened: its ledger has no event; run the same `paldies campaign open` again")

// Ledger is what an audit reads: eventstore.WithSubjects is one, and so are
// transparency.Entries, the offline copy, which knows no subjects. Replay gives
// every event once, in order, and fails on a gap. The events may be kept.
type Ledger interface {
	Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error
}

// Options are what an audit may have besides the events.
type Options struct {
	// Seal is what was signed about them; nil when nobody asked.
	Seal *Seal
	// Progress, when not nil, is called with the events seen so far.
	Progress func(events uint64)
}

// Verify replays a ledger from its first event and checks everything. Whatever
// is wrong with its content is in the report. Errors are ErrNotOpened and
// faults of the ledger's service.
func Verify(ctx context.Context, campaign string, l Ledger, codec *domain.Codec, o Options) (*Report, error) {
	a := newAuditor(campaign)
	seal := o.Seal.rebuild()
	err := inOrder(ctx, l, func(b *bundle) { b.prepare(codec, seal != nil) }, func(b *bundle) error {
		switch {
		case seal == nil:
		case len(b.leaves) == transparency.TileWidth:
			seal.AppendBundle(b.leaves, b.root)
		default:
			seal.Append(b.leaves)
		}
		for i, rec := range b.events {
			if a.stopped {
				break
			}
			a.event(rec, b.decoded[i], b.errs[i])
		}
		if a.stopped && seal == nil {
			return errStop
		}
		if o.Progress != nil {
			o.Progress(b.events[len(b.events)-1].Sequence)
		}
		return nil
	})
	switch {
	case errors.Is(err, errStop):
	case errors.Is(err, eventstore.ErrCorrupt):
		if !a.stopped {
			a.mismatch(CheckOrder, a.last+1, "%v", err)
		}
		a.stopped = true
	case err != nil:
		return nil, fmt.Errorf("campaign %s: replay: %w", campaign, err)
	case a.last == 0:
		return nil, fmt.Errorf("campaign %s: %w", campaign, ErrNotOpened)
	}
	a.recount()
	a.merges()
	report := a.report()
	if err := report.certifications(ctx, l, codec, a.certifications); err != nil {
		return nil, err
	}
	if o.Seal != nil {
		report.seal(o.Seal, seal)
	}
	if o.Seal.offline() {
		report.Checks = slices.DeleteFunc(report.Checks, func(c Check) bool { return c.Name == CheckStream })
	}
	return report, nil
}

// errStop ends an audit that cannot go on: what follows an event that cannot
// be read has no meaning.
var errStop = errors.New("the audit cannot go on")

// moment is an event and when it was recorded.
type moment struct {
	sequence uint64
	at       time.Time
}

// ending is what made votes for a specialist impossible.
type ending struct {
	moment
	how string // "was withdrawn", for example
}

type auditor struct {
	campaign string
	tally    *domain.Tally
	ballots  ballots

	specialists []*domain.Specialist         // that votes are for, each as of some vote
	numbers     map[*domain.Specialist]int32 // by which votes name them
	last        uint64
	latest      moment // the event with the highest time so far

	closed         moment // campaign.closed
	published      uint64 // sequence of the certification that was published last, or 0
	archived       moment // campaign.archived
	certifications []certification
	ended          map[string]ending // by specialist: why votes for that id ended
	merged         map[string]moment // by canonical specialist: the last merge into it

	found   map[string][]Mismatch // by check
	stopped bool                  // events are left that were not checked
	void    []Mismatch
	raced   []Mismatch
}

func newAuditor(campaign string) *auditor {
	return &auditor{campaign: campaign, tally: new(domain.Tally),
		numbers: make(map[*domain.Specialist]int32),
		ended:   make(map[string]ending),
		merged:  make(map[string]moment),
		found:   make(map[string][]Mismatch)}
}

func (a *auditor) mismatch(check string, sequence uint64, format string, args ...any) {
	a.found[check] = append(a.found[check], Mismatch{Sequence: sequence, Text: fmt.Sprintf(format, args...)})
}

// stop is a mismatch behind which no event can be checked.
func (a *auditor) stop(check string, sequence uint64, text string) {
	a.mismatch(check, sequence, "%s; nothing behind it could be checked", text)
	a.stopped = true
}

// event folds one event and checks it. The register is then as of the event
// itself, which for voters' events is the same as before them.
func (a *auditor) event(rec eventstore.Recorded, e domain.Event, err error) {
	if rec.Sequence != a.last+1 {
		a.mismatch(CheckOrder, rec.Sequence, "it follows event %d", a.last)
	}
	a.last = rec.Sequence
	if err != nil {
		a.stop(CheckEvents, rec.Sequence, err.Error())
		return
	}
	a.place(rec, e)
	a.inTime(rec.Sequence, e.Time)
	if _, err := a.tally.Apply(rec.Sequence, e); err != nil {
		// A mismatch names its event already.
		a.stop(CheckLife, rec.Sequence, strings.TrimPrefix(err.Error(), fmt.Sprintf("event %d: ", rec.Sequence)))
		return
	}
	if a.archived.sequence != 0 && a.late(rec.Sequence, e) {
		return
	}
	a.rules(rec.Sequence, e)
}

// place checks that an event is where its content says. A log has no subjects:
// there only the campaign can be wrong.
func (a *auditor) place(rec eventstore.Recorded, e domain.Event) {
	switch {
	case rec.Subject == "" && e.Campaign != a.campaign:
		a.mismatch(CheckSubjects, rec.Sequence, "it is of the campaign %s", e.Campaign)
	case rec.Subject != "" && (e.Campaign != a.campaign || rec.Subject != domain.Subject(e)):
		a.mismatch(CheckSubjects, rec.Sequence, "it is on %s and belongs on %s", rec.Subject, domain.Subject(e))
	}
}

// rules checks what the fold of an event does not.
func (a *auditor) rules(sequence uint64, e domain.Event) {
	switch d := e.Data.(type) {
	case domain.VoteCast:
		a.vote(sequence, e, d)
	case domain.VoteRetracted:
		a.retraction(sequence, e, d)
	case domain.VoteAnnulled:
		a.annulment(sequence, e, d)
	case domain.SpecialistWithdrawn:
		a.end(d.Specialist, ending{moment{sequence, e.Time}, "was withdrawn"})
	case domain.SpecialistMerged:
		if s, _ := a.tally.Register().Specialist(d.Specialist); s.MergedInto != "" { // else it would have closed a circle
			a.end(d.Specialist, ending{moment{sequence, e.Time}, "was merged into " + d.Into})
		}
		a.merged[a.tally.Register().Canonical(d.Into)] = moment{sequence, e.Time}
	case domain.CampaignClosed:
		a.closed = moment{sequence, e.Time}
	case domain.CampaignArchived:
		if newest := a.newest(); newest != a.published {
			a.mismatch(CheckLife, sequence, "it archives results of which event %d, the newest certification, is not published", newest)
		}
		a.archived = moment{sequence, e.Time}
	case domain.ResultsDecided:
		a.decision(sequence, d)
	case domain.ResultsCertified:
		a.certification(sequence, d)
	case domain.ResultsPublished:
		a.publication(sequence, d)
	}
}

// late judges an event above the archiving, and says whether no rule is left to
// check: it may have been under way, and is void then. Of annulments the rules
// are checked all the same, and votes above the close are judged by that.
func (a *auditor) late(sequence uint64, e domain.Event) (judged bool) {
	underWay := !e.Time.After(a.archived.at.Add(maxRace))
	switch d := e.Data.(type) {
	case domain.VoteCast, domain.VoteRetracted:
		return false
	case domain.VoteAnnulled:
		if !d.AfterClose {
			return false
		}
	case domain.SpecialistRegistered, domain.SpecialistUpdated, domain.SpecialistWithdrawn, domain.SpecialistMerged:
		judged = true // nothing of it has happened
	default:
		underWay = false // the control subject has one order
	}
	if underWay {
		a.void = append(a.void, Mismatch{Sequence: sequence, Text: "it was under way when the campaign was archived"})
	} else {
		a.mismatch(CheckLife, sequence, "nothing can follow event %d, which archived the campaign", a.archived.sequence)
	}
	return judged
}

// inTime checks when an event was recorded.
func (a *auditor) inTime(sequence uint64, at time.Time) {
	if at.After(a.latest.at) {
		a.latest = moment{sequence, at}
		return
	}
	if at.Add(maxRace).Before(a.latest.at) {
		a.mismatch(CheckTime, sequence, "recorded at %s, long before event %d, which lies below it and was recorded at %s",
			domain.FormatTime(at), a.latest.sequence, domain.FormatTime(a.latest.at))
	}
}

// end remembers when votes for a specialist first became impossible.
func (a *auditor) end(specialist string, e ending) {
	if _, ended := a.ended[specialist]; !ended {
		a.ended[specialist] = e
	}
}

// newest is the sequence of the newest certification, or 0.
func (a *auditor) newest() uint64 {
	if n := len(a.certifications); n > 0 {
		return a.certifications[n-1].sequence
	}
	return 0
}

func (a *auditor) certifies(sequence uint64) bool {
	return slices.ContainsFunc(a.certifications, func(c certification) bool { return c.sequence == sequence })
}

func (a *auditor) publication(sequence uint64, d domain.ResultsPublished) {
	switch newest := a.newest(); {
	case !a.certifies(d.Certified):
		a.mismatch(CheckLife, sequence, "it publishes event %d, which certifies nothing", d.Certified)
	case d.Certified != newest:
		a.mismatch(CheckLife, sequence, "it publishes event %d, which event %d has superseded", d.Certified, newest)
	}
	a.published = d.Certified
}

// decision checks that a decision is about people there are. Whether they tie
// is found out by whoever says who wins: it chooses nobody else.
func (a *auditor) decision(sequence uint64, d domain.ResultsDecided) {
	for _, c := range slices.Concat(d.Winners, d.Others) {
		if c.Specialist == "" {
			continue
		}
		if _, ok := a.tally.Register().Specialist(c.Specialist); !ok {
			a.mismatch(CheckLife, sequence, "it is about the specialist %s, who is not registered", c.Specialist)
		}
	}
}

func (a *auditor) certification(sequence uint64, d domain.ResultsCertified) {
	if d.Sequence >= sequence {
		a.mismatch(CheckLife, sequence, "it certifies the results as of event %d, which does not lie below it", d.Sequence)
	}
	if d.Sequence < a.closed.sequence {
		a.mismatch(CheckLife, sequence, "it certifies the results as of event %d, which lies below the close, event %d", d.Sequence, a.closed.sequence)
	}
	switch newest := a.newest(); {
	case d.Supersedes != 0 && !a.certifies(d.Supersedes):
		a.mismatch(CheckLife, sequence, "it supersedes event %d, which certifies nothing", d.Supersedes)
	case d.Supersedes != newest:
		a.mismatch(CheckLife, sequence, "it supersedes event %d, but event %d is the newest certification below it", d.Supersedes, newest)
	case newest != 0 && d.Reason == "":
		a.mismatch(CheckLife, sequence, "it corrects event %d and gives no reason", newest)
	case d.Sequence < newest:
		a.mismatch(CheckLife, sequence, "it corrects event %d by results as of event %d, which are older", newest, d.Sequence)
	}
	a.certifications = append(a.certifications, certification{sequence, d})
}

func (a *auditor) report() *Report {
	r := &Report{Campaign: a.campaign, Status: a.tally.Register().Campaign().Status, Events: a.last,
		Ballots: a.ballots.count, Votes: a.tally.Votes(), Voters: a.tally.Voters(), AsOf: a.tally.AsOf(),
		Void: a.void, Raced: a.raced, tally: a.tally}
	for _, c := range checklist {
		c.Mismatches = a.found[c.Name]
		switch {
		case len(c.Mismatches) > 0:
			c.Status = Failed
		case a.stopped || c.Name == CheckStream:
			c.Status = NotChecked
		default:
			c.Status = Passed
		}
		r.Checks = append(r.Checks, c)
	}
	return r
}
