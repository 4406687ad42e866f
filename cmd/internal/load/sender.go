package load

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
)

// Codes of refusals that the API documents and that mean something here.
const (
	codeAlreadyVoted = "already_voted"
	codeMismatch     = "idempotency_mismatch"
)

// codesOfMoment are refusals that depend on when a request comes and not on
// what the voter did before: whoever closes the campaign under load gets them.
var codesOfMoment = []string{"campaign_closed", "too_early", "too_late", "channel_not_accepted"}

// sender is one client: it sends requests, one after the other, and judges
// their answers.
type sender struct {
	run    *run
	client *client
}

// send sends a request when it is due. The error ends the run.
func (s *sender) send(ctx context.Context, q request) error {
	if err := sleep(ctx, time.Until(q.due)); err != nil {
		return err
	}
	delay := time.Since(q.due)
	a, err := s.client.post(ctx, s.run.plan.key(q), s.run.plan.body(q.vote))
	if err != nil {
		return err
	}
	now := time.Now()
	m := measurement{kind: q.kind, latency: now.Sub(q.due), delay: delay, at: now}
	s.judge(q, a, &m)
	s.run.figures.record(m, q.measured)
	return nil
}

// judge holds an answer against what the API promises, and notes what it says
// about the vote.
func (s *sender) judge(q request, a answer, m *measurement) {
	switch a.status {
	case 0:
		m.givenUp = true
		if q.kind == newVote && !a.unsure {
			s.run.book.set(q.vote, entry{state: refused})
		}
	case http.StatusCreated:
		m.accepted = true
		s.judgeReceipt(q, a)
	case http.StatusConflict, http.StatusUnprocessableEntity:
		s.judgeRefusal(q, a, m)
	default:
		m.unexpected = true
		s.accuse(q, Unexpected, 0, fmt.Sprintf("status %d: %s", a.status, excerpt(a.body)))
	}
}

func (s *sender) judgeReceipt(q request, a answer) {
	digest := s.client.api.digest(a.body)
	earlier := s.run.book.get(q.vote)
	switch {
	case q.kind == repeat:
		s.accuse(q, AcceptedRepeat, earlier.sequence, "201 instead of already_voted: "+excerpt(a.body))
	case q.kind == retry && digest != earlier.digest:
		s.accuse(q, OtherAnswer, earlier.sequence, "a retry is answered with another body than the first time: "+excerpt(a.body))
	case q.kind == retry:
	case s.run.cfg.SkipCheck:
		s.run.book.set(q.vote, entry{digest: digest, state: acknowledged})
	default:
		r, err := s.receipt(q, a.body)
		if err != nil {
			s.accuse(q, Unexpected, 0, fmt.Sprintf("201 with a bad receipt: %v: %s", err, excerpt(a.body)))
			return
		}
		s.run.book.set(q.vote, entry{eventID: r.EventID, sequence: r.Sequence, digest: digest, state: acknowledged})
	}
}

// receipt reads the body of 201 and compares it with what was sent.
func (s *sender) receipt(q request, body []byte) (receipt, error) {
	var r receipt
	if err := json.Unmarshal(body, &r); err != nil {
		return receipt{}, err
	}
	_, specialist := s.run.plan.split(s.run.plan.pair(q.vote))
	switch {
	case r.Sequence == 0:
		return r, fmt.Errorf("no sequence")
	case r.EventID == uuid.Nil:
		return r, fmt.Errorf("no event_id")
	case r.Campaign != s.run.cfg.Campaign:
		return r, fmt.Errorf("campaign %q", r.Campaign)
	case r.Specialist != s.run.plan.specialists[specialist]:
		return r, fmt.Errorf("specialist %q", r.Specialist)
	}
	return r, nil
}

// judgeRefusal notes a refusal. A new vote may be refused for what the rules of
// the campaign say, but not for a vote that it never sent.
func (s *sender) judgeRefusal(q request, a answer, m *measurement) {
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil || p.Code == "" {
		m.unexpected = true
		s.accuse(q, Unexpected, 0, fmt.Sprintf("status %d without a code: %s", a.status, excerpt(a.body)))
		return
	}
	m.code = p.Code
	var allowed bool
	switch q.kind {
	case newVote:
		allowed = p.Code != codeAlreadyVoted && p.Code != codeMismatch
		if allowed && !a.unsure {
			s.run.book.set(q.vote, entry{state: refused})
		}
	case repeat:
		allowed = slices.Contains(codesOfMoment, p.Code) || p.Code == codeAlreadyVoted && s.names(q, p)
	}
	if !allowed {
		m.unexpected = true
		s.accuse(q, Unexpected, p.Sequence, fmt.Sprintf("a %s is refused: status %d: %s", q.kind, a.status, excerpt(a.body)))
	}
}

// names says whether a refusal names the vote that is in the way.
func (s *sender) names(q request, p problem) bool {
	return s.run.cfg.SkipCheck || p.Sequence == s.run.book.get(q.vote).sequence
}

// accuse lists a discrepancy about a request.
func (s *sender) accuse(q request, kind DiscrepancyKind, sequence uint64, detail string) {
	voter, specialist := s.run.plan.split(s.run.plan.pair(q.vote))
	s.run.findings.add(Discrepancy{
		Kind: kind, Voter: s.run.plan.voterID(voter), Specialist: s.run.plan.specialists[specialist],
		Key: s.run.plan.key(q), Sequence: sequence, Detail: detail,
	})
}
