package api

import (
	"net/http"
	"net/url"
	"strconv"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

// VoteRequest is a vote as a channel sends it.
type VoteRequest struct {
	Voter        string `json:"voter,omitempty" maxLength:"256" doc:"The voter's id, at most 256 bytes of UTF-8, with a scheme that keeps kinds of ids apart. It is not stored. Left out on a channel without identity." example:"lv-pk:010180-12345"`
	SpecialistID string `json:"specialist_id" doc:"Who is praised." example:"anna-zvirbule"`
	CastAt       string `json:"cast_at,omitempty" format:"date-time" doc:"When the vote was cast, with an offset, if not now. Only for the channel in_person." example:"2018-03-01T09:30:00+02:00"`
}

// Receipt says where a vote or a retraction was recorded.
type Receipt struct {
	Campaign     string `json:"campaign" doc:"Id of the campaign."`
	Sequence     uint64 `json:"sequence" doc:"The receipt number: the event's place in the ledger." example:"294"`
	EventID      string `json:"event_id" format:"uuid" doc:"Id of the event."`
	RecordedAt   string `json:"recorded_at" format:"date-time" doc:"When it was recorded, in UTC."`
	Action       string `json:"action" enum:"vote,retract" doc:"What was recorded."`
	Channel      string `json:"channel" doc:"By which channel it came."`
	SpecialistID string `json:"specialist_id,omitempty" doc:"Whom the vote praises or has praised."`
	CastAt       string `json:"cast_at,omitempty" format:"date-time" doc:"When the vote was cast, if that was stated, in UTC."`
	Vote         uint64 `json:"vote,omitzero" doc:"Receipt number of the vote that is taken back, of a retraction."`
}

// VoteState is a receipt and what has become of it.
type VoteState struct {
	Receipt
	Status  string `json:"status,omitempty" enum:"active,retracted,annulled" doc:"What became of the vote."`
	EndedBy uint64 `json:"ended_by,omitzero" doc:"Number of the event that took the vote away."`
}

// ProvenVote is a receipt with its proof.
type ProvenVote struct {
	VoteState
	Proof string `json:"proof,omitempty" doc:"A C2SP tlog-proof that can be checked offline (paldies receipt verify). It is there about a second after the event was recorded, where this service has the signed log."`
}

// VoteList is a page of a voter's votes.
type VoteList struct {
	Votes []VoteState `json:"votes" nullable:"false" doc:"The voter's votes in the order of the ledger, taken back and annulled ones included."`
	Next  string      `json:"next,omitempty" doc:"The value of after for the next page; absent on the last one."`
}

// castVote records a vote.
func castVote(c *call) (reply, error) {
	var v VoteRequest
	if err := c.decode(&v); err != nil {
		return reply{}, err
	}
	cmd := intake.Command{Action: domain.Vote, Voter: v.Voter, Specialist: v.SpecialistID, Channel: c.credential.Channel}
	var err error
	if cmd.SubmissionID, err = c.idempotencyKey(); err != nil {
		return reply{}, err
	}
	if cmd.At, err = intake.StatedTime(cmd.Channel, v.CastAt); err != nil {
		return reply{}, err
	}
	in, err := c.intake()
	if err != nil {
		return reply{}, err
	}
	recorded, err := in.Submit(c.Context(), cmd)
	if err != nil {
		return reply{}, err
	}
	r := c.receipt(recorded, domain.Vote)
	if !cmd.At.IsZero() {
		r.CastAt = domain.FormatTime(domain.Timestamp(cmd.At))
	}
	return made(r), nil
}

// retractVote takes back the vote whose receipt number is in the address.
func retractVote(c *call) (reply, error) {
	who, in, err := c.who()
	if err != nil {
		return reply{}, err
	}
	who.Action = domain.Retract
	if who.Vote, err = c.sequence(); err != nil {
		return reply{}, err
	}
	if who.SubmissionID, err = c.idempotencyKey(); err != nil {
		return reply{}, err
	}
	recorded, err := in.Submit(c.Context(), who)
	if err != nil {
		return reply{}, err
	}
	r := c.receipt(recorded, domain.Retract)
	r.Vote = who.Vote
	return made(r), nil
}

// getVote is the receipt of one event of the voter.
func getVote(c *call) (reply, error) {
	sequence, err := c.sequence()
	if err != nil {
		return reply{}, err
	}
	ballot, err := c.ballot()
	if err != nil {
		return reply{}, err
	}
	e, ok := ballot.At(sequence)
	if !ok || e.Annuls {
		return reply{}, &domain.Refusal{Code: domain.UnknownVote}
	}
	v := ProvenVote{VoteState: c.state(ballot, e)}
	if c.backend.Prover != nil {
		proof, err := c.backend.Prover.Prove(c.Context(), c.campaign, sequence)
		if err != nil {
			return reply{}, err
		}
		v.Proof = string(proof)
	}
	return reply{status: http.StatusOK, body: v}, nil
}

// listVotes are the voter's own votes.
func listVotes(c *call) (reply, error) {
	q, err := c.query("limit", "after")
	if err != nil {
		return reply{}, err
	}
	n, err := limit(q["limit"])
	if err != nil {
		return reply{}, err
	}
	var after uint64
	if text := q["after"]; text != "" {
		if after, err = strconv.ParseUint(text, 10, 63); err != nil {
			return reply{}, &malformedError{"after is not the next of another page"}
		}
	}
	ballot, err := c.ballot()
	if err != nil {
		return reply{}, err
	}
	list := VoteList{Votes: []VoteState{}}
	for _, e := range ballot {
		if e.Takes != 0 || e.Sequence <= after {
			continue
		}
		if len(list.Votes) == n {
			list.Next = strconv.FormatUint(list.Votes[n-1].Sequence, 10)
			break
		}
		list.Votes = append(list.Votes, c.state(ballot, e))
	}
	return reply{status: http.StatusOK, body: list}, nil
}

// who is the voter of a request without a body, and the intake. On a channel
// without identity a slip is known by the id of its submission.
func (c *call) who() (intake.Command, *intake.Intake, error) {
	voter, err := c.voter()
	if err != nil {
		return intake.Command{}, nil, err
	}
	in, err := c.intake()
	if err != nil {
		return intake.Command{}, nil, err
	}
	return intake.Command{VoterOrSlip: voter, Channel: c.credential.Channel}, in, nil
}

func (c *call) ballot() (domain.Ballot, error) {
	who, in, err := c.who()
	if err != nil {
		return nil, err
	}
	return in.Ballot(c.Context(), who)
}

func (c *call) receipt(r intake.Receipt, action domain.Action) Receipt {
	return Receipt{Campaign: r.Campaign, Sequence: r.Sequence, EventID: r.EventID.String(),
		RecordedAt: domain.FormatTime(r.RecordedAt), Action: string(action), Channel: c.credential.Channel, SpecialistID: r.Specialist}
}

// made is the answer to what was recorded. The address is the same for every
// retry.
func made(r Receipt) reply {
	return reply{status: http.StatusCreated, body: r,
		location: prefix + "campaigns/" + url.PathEscape(r.Campaign) + "/votes/" + strconv.FormatUint(r.Sequence, 10)}
}

// state is an event of a ballot as the voter may see it.
func (c *call) state(b domain.Ballot, e domain.Entry) VoteState {
	v := VoteState{Receipt: Receipt{Campaign: c.campaign, Sequence: e.Sequence, EventID: e.ID.String(),
		RecordedAt: domain.FormatTime(e.RecordedAt), Action: string(domain.Vote), Channel: e.Channel,
		SpecialistID: e.Specialist, CastAt: stated(e)}}
	if e.Takes != 0 {
		v.Action, v.Vote, v.CastAt = string(domain.Retract), e.Takes, ""
		return v
	}
	v.Status = "active"
	if taker, ok := b.Taker(e.Sequence); ok {
		v.EndedBy, v.Status = taker.Sequence, "retracted"
		if taker.Annuls {
			v.Status = "annulled"
		}
	}
	return v
}

// stated is when a vote was cast, if its channel has stated that.
func stated(e domain.Entry) string {
	if e.ActedAt.Equal(e.RecordedAt) {
		return ""
	}
	return domain.FormatTime(e.ActedAt)
}
