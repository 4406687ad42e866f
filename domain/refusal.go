package domain

import "fmt"

// Code is the stable name of a reason to refuse a command.
type Code string

// The reasons to refuse a vote or a retraction.
const (
	AlreadyVoted        Code = "already_voted"
	VoteLimitReached    Code = "vote_limit_reached"
	UnknownSpecialist   Code = "unknown_specialist"
	WithdrawnSpecialist Code = "specialist_withdrawn"
	ClosedCampaign      Code = "campaign_closed"
	TooEarly            Code = "too_early"
	TooLate             Code = "too_late"
	CastInFuture        Code = "cast_in_future"
	UnknownVote         Code = "unknown_vote"
	AlreadyRetracted    Code = "already_retracted"
	ChannelNotAccepted  Code = "channel_not_accepted"
	IdempotencyMismatch Code = "idempotency_mismatch"
)

// refusalTexts are for the voter: one sentence in English and in Latvian.
var refusalTexts = map[Code]struct{ en, lv string }{
	AlreadyVoted:        {"This voter has voted for this specialist already.", "Par šo speciālistu šis balsotājs jau ir nobalsojis."},
	VoteLimitReached:    {"This voter has no votes left in this campaign.", "Šim balsotājam šajā kampaņā balsu vairs nav."},
	UnknownSpecialist:   {"There is no such specialist in this campaign.", "Šajā kampaņā tāda speciālista nav."},
	WithdrawnSpecialist: {"This specialist has been withdrawn from the campaign.", "Šis speciālists no kampaņas ir izslēgts."},
	ClosedCampaign:      {"The campaign is closed.", "Kampaņa ir slēgta."},
	TooEarly:            {"Voting has not begun yet.", "Balsošana vēl nav sākusies."},
	TooLate:             {"Voting has ended.", "Balsošana ir beigusies."},
	CastInFuture:        {"The stated time of the vote lies in the future.", "Norādītais balsojuma laiks ir nākotnē."},
	UnknownVote:         {"There is no active vote of this voter for this specialist.", "Šim balsotājam par šo speciālistu spēkā esošas balss nav."},
	AlreadyRetracted:    {"This vote has been taken back already.", "Šī balss jau ir atsaukta."},
	ChannelNotAccepted:  {"This campaign does not accept votes by this channel.", "Šajā kampaņā balsis pa šo kanālu nepieņem."},
	IdempotencyMismatch: {"This submission id was used before with another content.", "Šis iesnieguma identifikators jau ir izmantots ar citu saturu."},
}

// Refusal says that the rules do not allow a command. It is an answer, not a
// fault: nothing was recorded, and asking again changes nothing.
type Refusal struct {
	Code     Code
	Sequence uint64 // the recorded event that stands in the way, or 0
}

func (r *Refusal) Error() string {
	if r.Sequence != 0 {
		return fmt.Sprintf("%s: %s (event %d)", r.Code, r.English(), r.Sequence)
	}
	return fmt.Sprintf("%s: %s", r.Code, r.English())
}

// English is a sentence for the voter.
func (r *Refusal) English() string { return refusalTexts[r.Code].en }

// Latvian is a sentence for the voter.
func (r *Refusal) Latvian() string { return refusalTexts[r.Code].lv }

func refuse(code Code) *Refusal { return &Refusal{Code: code} }
