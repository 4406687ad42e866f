package domain

import "strings"

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
		subjectPrefix + campaign + ".voter.*",
		subjectPrefix + campaign + ".annulment.*",
	}
}

// AllSubjects matches every event of a campaign.
func AllSubjects(campaign string) string { return subjectPrefix + campaign + ".>" }

// ControlSubject is where the campaign's own events are.
func ControlSubject(campaign string) string { return subjectPrefix + campaign + ".campaign" }

// SpecialistSubject is where one specialist's events are.
func SpecialistSubject(campaign, id string) string {
	return subjectPrefix + campaign + "." + specialistSubject(id)
}

// SpecialistSubjects matches all specialists' events.
func SpecialistSubjects(campaign string) string { return SpecialistSubject(campaign, "*") }

// VoterSubject is where one ballot is.
func VoterSubject(campaign string, voter Pseudonym) string {
	return subjectPrefix + campaign + "." + voterSubject(voter)
}

// AnnulmentSubject is where annulments in one ballot are after the close.
func AnnulmentSubject(campaign string, voter Pseudonym) string {
	return subjectPrefix + campaign + "." + annulmentSubject(voter)
}

// Subject is the one subject on which an event belongs.
func Subject(e Event) string { return subjectPrefix + e.Campaign + "." + e.Data.subject() }

const controlSubject = "campaign"

func specialistSubject(id string) string      { return "specialist." + id }
func voterSubject(voter Pseudonym) string     { return "voter." + voter.String() }
func annulmentSubject(voter Pseudonym) string { return "annulment." + voter.String() }

func (CampaignOpened) subject() string         { return controlSubject }
func (CampaignAmended) subject() string        { return controlSubject }
func (CampaignClosed) subject() string         { return controlSubject }
func (CampaignArchived) subject() string       { return controlSubject }
func (ResultsCertified) subject() string       { return controlSubject }
func (ResultsPublished) subject() string       { return controlSubject }
func (d SpecialistRegistered) subject() string { return specialistSubject(d.Specialist) }
func (d SpecialistUpdated) subject() string    { return specialistSubject(d.Specialist) }
func (d SpecialistWithdrawn) subject() string  { return specialistSubject(d.Specialist) }
func (d SpecialistMerged) subject() string     { return specialistSubject(d.Specialist) }
func (d VoteCast) subject() string             { return voterSubject(d.Voter) }
func (d VoteRetracted) subject() string        { return voterSubject(d.Voter) }

func (d VoteAnnulled) subject() string {
	if d.AfterClose {
		return annulmentSubject(d.Voter)
	}
	return voterSubject(d.Voter)
}
