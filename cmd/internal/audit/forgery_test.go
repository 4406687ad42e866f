package audit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
)

// forgery is what somebody writes into the ledger of an open campaign, past
// every rule.
type forgery struct {
	name  string
	check string // that finds it
	text  string // in the world of TestForgeries
	forge func(w *world) uint64
	// spreads says that events which come later, and are honest, are found too:
	// the forgery makes them false.
	spreads bool
}

// long is a time after which nothing can have been under way any more.
const long = domain.MaxClockSkew + time.Minute + time.Millisecond

// In the world of TestForgeries, event 1 opens the campaign, and what a forgery
// records begins with event 2.
var forgeries = []forgery{
	{name: "a second vote", check: audit.CheckOnce,
		text: "event 4: a second vote for zanete-kirsone-2 (Žanete Ķirsone); the first is event 3",
		forge: func(w *world) uint64 {
			s, v := w.specialist(), w.stranger()
			w.cast(v, s)
			return w.admin(domain.VoteCast{Voter: v, Specialist: s, Channel: "mobile", Active: 2})
		}},
	{name: "a vote with the id of another", check: audit.CheckOnce,
		text: "event 5: it has the id of event 4",
		forge: func(w *world) uint64 {
			v := w.stranger()
			first, second := w.specialist(), w.specialist()
			e := w.decide(v, first, domain.Vote)
			w.record(e)
			e.Data = domain.VoteCast{Voter: v, Specialist: second, Channel: "web", Active: 2}
			return w.record(e)
		}},
	{name: "a vote where an annulled one keeps its place", check: audit.CheckOnce,
		text: "event 5: a second vote for zanete-kirsone-2 (Žanete Ķirsone); the first is event 3",
		forge: func(w *world) uint64 {
			s, v := w.specialist(), w.stranger()
			w.annul(w.cast(v, s))
			return w.admin(domain.VoteCast{Voter: v, Specialist: s, Channel: "web", Active: 1})
		}},
	{name: "a vote for whom another counts since a merge", check: audit.CheckOnce,
		text: "event 6: a second vote for zanete-kirsone-3 (Žanete Ķirsone), which has been one with zanete-kirsone-2 since event 5; the first is event 4",
		forge: func(w *world) uint64 {
			from, into, v := w.specialist(), w.specialist(), w.stranger()
			w.cast(v, from)
			w.admin(domain.SpecialistMerged{Specialist: from, Into: into, Decision: "VK-7"})
			w.clock = w.clock.Add(long)
			return w.admin(domain.VoteCast{Voter: v, Specialist: into, Channel: "web", Active: 2})
		}},
	{name: "a vote for who was merged into whom the voter praised", check: audit.CheckOnce,
		text: "event 6: a second vote for zanete-kirsone-2 (Žanete Ķirsone), which has been one with zanete-kirsone-3 since event 5; the first is event 4",
		forge: func(w *world) uint64 {
			from, into, v := w.specialist(), w.specialist(), w.stranger()
			w.cast(v, into)
			w.admin(domain.SpecialistMerged{Specialist: from, Into: into, Decision: "VK-7"})
			w.clock = w.clock.Add(long)
			return w.admin(domain.VoteCast{Voter: v, Specialist: from, Channel: "web", Active: 2})
		}},
	{name: "a vote for who was merged long before", check: audit.CheckSpecialists,
		text: "event 5: recorded at 2018-05-04T09:06:00.001Z, long after zanete-kirsone-2 (Žanete Ķirsone) was merged into zanete-kirsone-3 at 2018-05-04T09:00:00.000Z (event 4)",
		forge: func(w *world) uint64 {
			from, into := w.specialist(), w.specialist()
			w.admin(domain.SpecialistMerged{Specialist: from, Into: into, Decision: "VK-7"})
			w.clock = w.clock.Add(long)
			return w.admin(domain.VoteCast{Voter: w.stranger(), Specialist: from, Channel: "web", Active: 1})
		}},
	{name: "a vote for who was withdrawn long before", check: audit.CheckSpecialists,
		text: "event 4: recorded at 2018-05-04T09:06:00.001Z, long after zanete-kirsone-2 (Žanete Ķirsone) was withdrawn at 2018-05-04T09:00:00.000Z (event 3)",
		forge: func(w *world) uint64 {
			s := w.specialist()
			w.admin(domain.SpecialistWithdrawn{Specialist: s})
			w.clock = w.clock.Add(long)
			return w.admin(domain.VoteCast{Voter: w.stranger(), Specialist: s, Channel: "web", Active: 1})
		}},
	{name: "a vote for nobody", check: audit.CheckSpecialists,
		text: "event 2: specialist neviens is not registered",
		forge: func(w *world) uint64 {
			return w.admin(domain.VoteCast{Voter: w.stranger(), Specialist: "neviens", Channel: "web", Active: 1})
		}},
	{name: "a vote by a channel that there is not", check: audit.CheckChannels,
		text: "event 3: channel telegramma is not one of the campaign's",
		forge: func(w *world) uint64 {
			return w.admin(domain.VoteCast{Voter: w.stranger(), Specialist: w.specialist(), Channel: "telegramma", Active: 1})
		}},
	{name: "a retraction by a channel that there is not", check: audit.CheckChannels,
		text: "event 4: channel telegramma is not one of the campaign's",
		forge: func(w *world) uint64 {
			return w.forgeRetraction(func(d *domain.VoteRetracted) { d.Channel = "telegramma" })
		}},
	{name: "a vote over the limit", check: audit.CheckLimit,
		text: "event 9: 4 votes in force, 3 are allowed",
		forge: func(w *world) uint64 {
			v, limit := w.stranger(), w.register.Campaign().VotesPerVoter
			for range limit {
				w.cast(v, w.specialist())
			}
			return w.admin(domain.VoteCast{Voter: v, Specialist: w.specialist(), Channel: "web", Active: limit + 1})
		}},
	{name: "a vote before the beginning", check: audit.CheckWindow,
		text: "event 3: cast at 1918-11-18T12:00:00.000Z and recorded at 2018-05-04T09:00:00.000Z; voting is open from 2017-11-12T22:00:00.000Z to 2018-11-11T22:00:00.000Z",
		forge: func(w *world) uint64 {
			return w.forgeVote(func(d *domain.VoteCast) { d.CastAt = time.Date(1918, 11, 18, 12, 0, 0, 0, time.UTC) })
		}},
	{name: "a vote at the end", check: audit.CheckWindow,
		text: "event 3: cast at 2018-11-11T22:00:00.000Z and recorded at 2018-05-04T09:00:00.000Z; voting is open from 2017-11-12T22:00:00.000Z to 2018-11-11T22:00:00.000Z",
		forge: func(w *world) uint64 {
			return w.forgeVote(func(d *domain.VoteCast) { d.CastAt = w.register.Campaign().ClosesAt })
		}},
	{name: "a retraction in the future", check: audit.CheckWindow,
		text: "event 4: cast at 2018-05-04T09:05:00.001Z and recorded at 2018-05-04T09:00:00.000Z; voting is open from 2017-11-12T22:00:00.000Z to 2018-11-11T22:00:00.000Z",
		forge: func(w *world) uint64 {
			return w.forgeRetraction(func(d *domain.VoteRetracted) {
				d.RetractedAt = domain.Timestamp(w.clock.Add(domain.MaxClockSkew + time.Millisecond))
			})
		}},
	{name: "an event on another subject", check: audit.CheckSubjects,
		text: fmt.Sprintf("event 3: it is on ledger.%s.campaign and belongs on ledger.%[1]s.voter.%s", campaign, voter("Līga Žagare-3")),
		forge: func(w *world) uint64 {
			e := w.event(domain.VoteCast{Specialist: w.specialist(), Voter: w.stranger(), Channel: "web", Active: 1})
			return w.recordOn(domain.ControlSubject(campaign), w.encode(e))
		}},
	{name: "an event of another campaign", check: audit.CheckLife,
		text: "event 3: it belongs to campaign cita-2018, the ledger to laba-servisa-kustiba-2018; nothing behind it could be checked",
		forge: func(w *world) uint64 {
			e := w.event(domain.VoteCast{Voter: w.stranger(), Specialist: w.specialist(), Channel: "web", Active: 1})
			e.Campaign = "cita-2018"
			return w.recordOn(domain.ControlSubject(campaign), w.encode(e))
		}},
	{name: "a backdated event", check: audit.CheckTime,
		text: "event 3: recorded at 2018-05-04T08:53:59.999Z, long before event 1, which lies below it and was recorded at 2018-05-04T09:00:00.000Z",
		forge: func(w *world) uint64 {
			s := w.specialist()
			e := w.event(domain.VoteCast{Voter: w.stranger(), Specialist: s, Channel: "web", Active: 1})
			e.Time = e.Time.Add(-long)
			return w.record(e)
		}},
	{name: "a wrong number after a vote", check: audit.CheckActive,
		text:  "event 3: it states 7 votes in force, the ballot has 1",
		forge: func(w *world) uint64 { return w.forgeVote(func(d *domain.VoteCast) { d.Active = 7 }) }},
	{name: "a wrong number after a retraction", check: audit.CheckActive,
		text: "event 4: it states 1 votes in force, the ballot has 0",
		forge: func(w *world) uint64 {
			return w.forgeRetraction(func(d *domain.VoteRetracted) { d.Active = 1 })
		}},
	{name: "a wrong number after an annulment", check: audit.CheckActive,
		text: "event 4: it states 1 votes in force, the ballot has 0",
		forge: func(w *world) uint64 {
			return w.forgeAnnulment(func(e *domain.Event, d *domain.VoteAnnulled) { d.Active = 1 })
		}},
	{name: "a retraction of another voter's vote", check: audit.CheckTaken,
		text: "event 4: event 3 is not a vote of this voter",
		forge: func(w *world) uint64 {
			stranger := w.stranger()
			return w.forgeRetraction(func(d *domain.VoteRetracted) { d.Voter = stranger })
		}},
	{name: "a second retraction", check: audit.CheckTaken,
		text: "event 7: event 5 was taken away before",
		forge: func(w *world) uint64 {
			v, s := w.stranger(), w.specialist()
			w.cast(v, w.specialist())
			vote := w.cast(v, s)
			w.retract(v, s)
			return w.admin(domain.VoteRetracted{Voter: v, Specialist: s, Channel: "web", Vote: w.ref(vote)})
		}},
	{name: "a retraction that names another specialist", check: audit.CheckTaken,
		text: "event 5: it does not describe event 3 as it is",
		forge: func(w *world) uint64 {
			return w.forgeRetraction(func(d *domain.VoteRetracted) { d.Specialist = w.specialist() })
		}},
	{name: "a retraction that names another time", check: audit.CheckTaken,
		text: "event 4: it does not describe event 3 as it is",
		forge: func(w *world) uint64 {
			return w.forgeRetraction(func(d *domain.VoteRetracted) { d.Vote.CastAt = d.Vote.CastAt.Add(-time.Hour) })
		}},
	{name: "an annulment that names another channel", check: audit.CheckTaken,
		text: "event 4: it does not describe event 3 as it is",
		forge: func(w *world) uint64 {
			return w.forgeAnnulment(func(e *domain.Event, d *domain.VoteAnnulled) { d.Vote.Channel = "in_person" })
		}},
	{name: "an annulment with an id of its own", check: audit.CheckTaken,
		text: "event 4: its id is not that of an annulment of event 3",
		forge: func(w *world) uint64 {
			return w.forgeAnnulment(func(e *domain.Event, d *domain.VoteAnnulled) { e.ID = uuid.UUID{15: 1} })
		}},
	{name: "an annulment after a close that there is not", check: audit.CheckFence,
		text: "event 4: it is an annulment after the close, and there is no close below it",
		forge: func(w *world) uint64 {
			return w.forgeAnnulment(func(e *domain.Event, d *domain.VoteAnnulled) { d.AfterClose = true })
		}},
	{name: "a vote long after the close", check: audit.CheckFence,
		text: "event 4: recorded at 2018-05-04T09:06:00.001Z, long after the close at 2018-05-04T09:00:00.000Z (event 3)",
		forge: func(w *world) uint64 {
			s := w.specialist()
			w.admin(domain.CampaignClosed{})
			w.clock = w.clock.Add(long)
			return w.admin(domain.VoteCast{Voter: w.stranger(), Specialist: s, Channel: "web", Active: 1})
		}},
	{name: "a second opening", check: audit.CheckLife,
		text: "event 2: campaign laba-servisa-kustiba-2018: opened a second time at sequence 2; nothing behind it could be checked",
		forge: func(w *world) uint64 {
			return w.admin(domain.CampaignOpened{OpensAt: opensAt, ClosesAt: closesAt, Timezone: "Europe/Riga", KeyID: key.ID(),
				Channels: []domain.Channel{{Name: "web", Identity: domain.NoIdentity}}})
		}},
	{name: "an amendment that tightens", check: audit.CheckLife,
		text: "event 2: campaign laba-servisa-kustiba-2018: votes_per_voter can only be raised (now 3, where 0 is no limit); nothing behind it could be checked",
		forge: func(w *world) uint64 {
			one := 1
			return w.admin(domain.CampaignAmended{VotesPerVoter: &one})
		}},
	{name: "a second registration", check: audit.CheckLife,
		text: "event 3: specialist zanete-kirsone-2 is registered a second time; nothing behind it could be checked",
		forge: func(w *world) uint64 {
			return w.admin(domain.SpecialistRegistered{Specialist: w.specialist(), Profile: domain.Profile{Name: "Jānis Ķēniņš"}})
		}},
	{name: "a certification of what lies above it", check: audit.CheckLife,
		text: "event 3: it certifies the results as of event 3, which does not lie below it",
		forge: func(w *world) uint64 {
			closed := w.admin(domain.CampaignClosed{})
			return w.admin(domain.ResultsCertified{Sequence: closed + 1, TallyDigest: w.digest(closed)})
		}},
	{name: "a certification that supersedes none", check: audit.CheckLife,
		text: "event 3: it supersedes event 2, which certifies nothing",
		forge: func(w *world) uint64 {
			closed := w.admin(domain.CampaignClosed{})
			return w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed), Supersedes: closed})
		}},
	{name: "a publication of what was not certified", check: audit.CheckLife,
		text: "event 4: it publishes event 2, which certifies nothing",
		forge: func(w *world) uint64 {
			closed := w.admin(domain.CampaignClosed{})
			w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed)})
			return w.admin(domain.ResultsPublished{Certified: closed})
		}},
	{name: "a correction that does not say of what", check: audit.CheckLife,
		text: "event 4: it supersedes event 0, but event 3 is the newest certification below it",
		forge: func(w *world) uint64 {
			closed := w.admin(domain.CampaignClosed{})
			w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed)})
			return w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed), Reason: "Labojums."})
		}},
	{name: "a correction of what was corrected before", check: audit.CheckLife,
		text: "event 5: it supersedes event 3, but event 4 is the newest certification below it",
		forge: func(w *world) uint64 {
			closed := w.admin(domain.CampaignClosed{})
			first := w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed)})
			d := domain.ResultsCertified{Sequence: first, TallyDigest: w.digest(first), Supersedes: first, Reason: "Labojums."}
			w.admin(d)
			return w.admin(d)
		}},
	{name: "a correction without a reason", check: audit.CheckLife,
		text: "event 4: it corrects event 3 and gives no reason",
		forge: func(w *world) uint64 {
			closed := w.admin(domain.CampaignClosed{})
			first := w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed)})
			return w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed), Supersedes: first})
		}},
	{name: "a certification of what was counted before the close", check: audit.CheckLife,
		text: "event 5: it certifies the results as of event 3, which lies below the close, event 4",
		forge: func(w *world) uint64 {
			vote := w.cast(w.stranger(), w.specialist())
			w.admin(domain.CampaignClosed{})
			return w.admin(domain.ResultsCertified{Sequence: vote, TallyDigest: w.digest(vote)})
		}},
	{name: "a publication of what was corrected", check: audit.CheckLife,
		text: "event 5: it publishes event 3, which event 4 has superseded",
		forge: func(w *world) uint64 {
			closed := w.admin(domain.CampaignClosed{})
			first := w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed)})
			w.admin(domain.ResultsCertified{Sequence: first, TallyDigest: w.digest(first), Supersedes: first, Reason: "Labojums."})
			return w.admin(domain.ResultsPublished{Certified: first})
		}},
	{name: "an archive without its last correction", check: audit.CheckLife,
		text: "event 6: it archives results of which event 5, the newest certification, is not published",
		forge: func(w *world) uint64 {
			closed := w.admin(domain.CampaignClosed{})
			first := w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed)})
			w.admin(domain.ResultsPublished{Certified: first})
			w.admin(domain.ResultsCertified{Sequence: first, TallyDigest: w.digest(first), Supersedes: first, Reason: "Labojums."})
			return w.admin(domain.CampaignArchived{})
		}, spreads: true},
	{name: "a correction by older results", check: audit.CheckLife,
		text: "event 4: it corrects event 3 by results as of event 2, which are older",
		forge: func(w *world) uint64 {
			closed := w.admin(domain.CampaignClosed{})
			first := w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed)})
			return w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed), Supersedes: first, Reason: "Labojums."})
		}},
	{name: "a decision about nobody", check: audit.CheckLife,
		text: "event 3: it is about the specialist neviens, who is not registered",
		forge: func(w *world) uint64 {
			w.admin(domain.CampaignClosed{})
			return w.admin(domain.ResultsDecided{Award: domain.Letter, Places: 1, Winners: []domain.Candidate{{Specialist: "neviens"}}, Decision: "VK-8", Reason: "Žūrijas balsojums."})
		}},
	{name: "an annulment after the archiving", check: audit.CheckLife,
		text: "event 8: nothing can follow event 7, which archived the campaign",
		forge: func(w *world) uint64 {
			vote := w.cast(w.stranger(), w.specialist())
			w.archive()
			w.clock = w.clock.Add(long)
			e, d := w.annulmentOf(vote)
			d.AfterClose = true
			e.Data = d
			return w.record(e)
		}, spreads: true},
	{name: "a withdrawal after the archiving", check: audit.CheckLife,
		text: "event 7: nothing can follow event 6, which archived the campaign",
		forge: func(w *world) uint64 {
			s := w.specialist()
			w.archive()
			w.clock = w.clock.Add(long)
			return w.admin(domain.SpecialistWithdrawn{Specialist: s})
		}, spreads: true},
	{name: "an amendment after the archiving", check: audit.CheckLife,
		text: "event 6: campaign laba-servisa-kustiba-2018: it is archived; only an open campaign can be amended; nothing behind it could be checked",
		forge: func(w *world) uint64 {
			w.archive()
			return w.admin(domain.CampaignAmended{Title: "Cita kustība"})
		}, spreads: true},
	{name: "an event of an unknown kind", check: audit.CheckEvents,
		text: `event 2: unknown event type "lv.sakipaldies.vote.blessed.v1"; nothing behind it could be checked`,
		forge: func(w *world) uint64 {
			return w.recordOn(domain.ControlSubject(campaign), fmt.Appendf(nil,
				`{"specversion":"1.0","id":%q,"source":"/campaigns/%s","type":"lv.sakipaldies.vote.blessed.v1","time":%q,"data":{}}`,
				uuid.UUID{15: 7}, campaign, domain.FormatTime(w.clock)))
		}},
}

// forgeVote is a vote of a stranger for somebody new, changed.
func (w *world) forgeVote(change func(*domain.VoteCast)) uint64 {
	w.t.Helper()
	e := w.decide(w.stranger(), w.specialist(), domain.Vote)
	d := e.Data.(domain.VoteCast)
	change(&d)
	e.Data = d
	return w.record(e)
}

// forgeRetraction is the retraction of such a vote, changed.
func (w *world) forgeRetraction(change func(*domain.VoteRetracted)) uint64 {
	w.t.Helper()
	v, s := w.stranger(), w.specialist()
	w.cast(v, s)
	e := w.decide(v, s, domain.Retract)
	d := e.Data.(domain.VoteRetracted)
	change(&d)
	e.Data = d
	return w.record(e)
}

// forgeAnnulment is the annulment of such a vote, changed.
func (w *world) forgeAnnulment(change func(*domain.Event, *domain.VoteAnnulled)) uint64 {
	w.t.Helper()
	e, d := w.annulmentOf(w.cast(w.stranger(), w.specialist()))
	change(&e, &d)
	e.Data = d
	return w.record(e)
}

// annulmentOf is an annulment as it should be, whether or not it may be.
func (w *world) annulmentOf(vote uint64) (domain.Event, domain.VoteAnnulled) {
	d := w.log[vote-1].Data.(domain.VoteCast)
	e := w.event(nil)
	e.ID = domain.AnnulmentEventID(campaign, vote)
	return e, domain.VoteAnnulled{Voter: d.Voter, Specialist: d.Specialist, Vote: w.ref(vote),
		Decision: "SIF-2018/0", Reason: "Bez lēmuma.", Active: w.ballot(d.Voter).Active() - 1}
}

// digest is that of the results as of an event, or of the last one that can be
// counted: behind a forgery no audit counts either.
func (w *world) digest(sequence uint64) string {
	var tally domain.Tally
	for i, e := range w.log[:sequence] {
		if _, err := tally.Apply(uint64(i+1), e); err != nil {
			break
		}
	}
	return tally.Digest()
}

// archive takes an open campaign to the end of its life, in four events.
func (w *world) archive() {
	w.t.Helper()
	closed := w.admin(domain.CampaignClosed{})
	certified := w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed)})
	w.admin(domain.ResultsPublished{Certified: certified})
	w.admin(domain.CampaignArchived{})
}

// TestForgeries: each is found by the check that is about it, at the event
// that is forged.
func TestForgeries(t *testing.T) {
	for _, f := range forgeries {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, t)
			f.forge(w)
			report := w.verify()
			if report.OK() {
				t.Error("the audit is content")
			}
			found := ""
			for _, c := range report.Checks {
				for _, m := range c.Mismatches {
					if c.Name == f.check {
						found = m.String()
					}
					if m.Sequence != 0 && m.Sequence != uint64(len(w.log)) {
						t.Errorf("an honest event is accused: %s: %s", c.Name, m)
					}
				}
			}
			if found != f.text {
				t.Errorf("%s finds\n     %s\nwant %s\nall: %q", f.check, found, f.text, mismatches(report))
			}
		})
	}
}

func (f forgery) String() string { return f.name }
