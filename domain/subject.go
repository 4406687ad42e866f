package domain

import (
	"encoding/hex"
	"strings"
)

// A campaign's ledger is the stream LEDGER_<campaign>. Its subjects follow from
// its events, so that what is on a foreign subject can be told:
//
//	ledger.<campaign>.campaign                what the campaign itself goes through
//	ledger.<campaign>.specialist.<id>         one specialist
//	ledger.<campaign>.voter.<pseudonym>       one ballot
//	ledger.<campaign>.annulment.<pseudonym>   annulments in one ballot after the close
const (
	StreamPrefix  = "LEDGER_"
	subjectPrefix = "ledger."
)

// StreamName is the name of a campaign's stream.
func StreamName(campaign string) string { return StreamPrefix + campaign }

// CampaignOfStream is the inverse of StreamName.
func CampaignOfStream(stream string) (string, bool) {
	return strings.CutPrefix(stream, StreamPrefix)
}

// StreamSubjects are the subjects of a campaign's stream.
func StreamSubjects(campaign string) []string {
	return []string{
		ControlSubject(campaign),
		SpecialistSubjects(campaign),
		VoterSubjects(campaign),
		subjectPrefix + campaign + ".annulment.*",
	}
}

// ControlSubject is where the campaign's own events are.
func ControlSubject(campaign string) string { return subjectPrefix + campaign + ".campaign" }

// SpecialistSubject is where one specialist's events are.
func SpecialistSubject(campaign, id string) string {
	return subjectPrefix + campaign + ".specialist." + id
}

// SpecialistSubjects matches all specialists' events.
func SpecialistSubjects(campaign string) string { return SpecialistSubject(campaign, "*") }

// VoterSubject is where one ballot is.
func VoterSubject(campaign string, voter Pseudonym) string {
	return ballotSubject(campaign, ".voter.", voter)
}

// VoterSubjects matches all ballots.
func VoterSubjects(campaign string) string { return subjectPrefix + campaign + ".voter.*" }

// AnnulmentSubject is where annulments in one ballot are after the close.
func AnnulmentSubject(campaign string, voter Pseudonym) string {
	return ballotSubject(campaign, ".annulment.", voter)
}

// ballotSubject takes one allocation: every vote needs it.
func ballotSubject(campaign, kind string, voter Pseudonym) string {
	var room [128]byte // for all that the limits allow
	s := append(append(append(room[:0], subjectPrefix...), campaign...), kind...)
	return string(hex.AppendEncode(s, voter[:]))
}

// Subject is the one subject on which an event belongs.
func Subject(e Event) string { return e.Data.subject(e.Campaign) }

func (CampaignOpened) subject(campaign string) string   { return ControlSubject(campaign) }
func (CampaignAmended) subject(campaign string) string  { return ControlSubject(campaign) }
func (CampaignClosed) subject(campaign string) string   { return ControlSubject(campaign) }
func (CampaignArchived) subject(campaign string) string { return ControlSubject(campaign) }
func (ResultsDecided) subject(campaign string) string   { return ControlSubject(campaign) }
func (ResultsCertified) subject(campaign string) string { return ControlSubject(campaign) }
func (ResultsPublished) subject(campaign string) string { return ControlSubject(campaign) }

func (d SpecialistRegistered) subject(campaign string) string {
	return SpecialistSubject(campaign, d.Specialist)
}

func (d SpecialistUpdated) subject(campaign string) string {
	return SpecialistSubject(campaign, d.Specialist)
}

func (d SpecialistWithdrawn) subject(campaign string) string {
	return SpecialistSubject(campaign, d.Specialist)
}

func (d SpecialistMerged) subject(campaign string) string {
	return SpecialistSubject(campaign, d.Specialist)
}

func (d VoteCast) subject(campaign string) string      { return VoterSubject(campaign, d.Voter) }
func (d VoteRetracted) subject(campaign string) string { return VoterSubject(campaign, d.Voter) }

func (d VoteAnnulled) subject(campaign string) string {
	if d.AfterClose {
		return AnnulmentSubject(campaign, d.Voter)
	}
	return VoterSubject(campaign, d.Voter)
}
