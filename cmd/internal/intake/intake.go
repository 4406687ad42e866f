// Package intake is the one way from a command to a receipt. The command line
// and the import call Submit; every other channel will.
//
//	Submit: pseudonym → ballot → domain.Decide → append → look at the fence → Receipt
//
// An intake keeps nothing but caches: any number of them run side by side on
// one ledger, and any of them may die at any moment. What they agree on is the
// expected sequence of the voter's subject.
//
// # Decisions
//
// A ballot in the cache may be behind. That costs at most a conflict, which
// reloads it from the leader, or a refusal, which is confirmed against the
// leader once before it is answered. It can never double a vote.
//
// A vote is acknowledged only after its append is durable and the campaign, as
// its leader knew it afterwards, shows no close below the vote. The same holds
// for a vote that a retry finds: it may lie above a close that this process
// has not heard of yet; and for what happens to specialists, whose fence is the
// archiving.
//
// A merge, a certification and the archiving need what lies above the ballots: a look at the
// whole ledger. Neither trusts that nothing comes meanwhile. A merge is one event,
// then looks until no voter has two votes left, and can be finished by anybody; a
// certification names the event up to which it counts, so that an annulment that
// races with it is simply not part of it. The archiving cannot be taken back: it
// looks until nothing came meanwhile. What comes still, between its last look and
// its event, may be a merge that nobody can finish any more, which the audit tells.
package intake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

const (
	// maxAttempts bounds how often one command is decided again because
	// another event of the same voter came first.
	maxAttempts = 32
	// conflictPause is the longest first pause after a conflict; it doubles.
	conflictPause = 2 * time.Millisecond
	// maxConflictPause is the longest pause after any conflict.
	maxConflictPause = 100 * time.Millisecond
	// maxRegisterAge is how old the register may be when a command is decided.
	// A withdrawal takes effect within this time.
	maxRegisterAge = time.Second
	// renewRegisterAge is at what age somebody reads it anew, so that nobody waits for
	// that when it is too old.
	renewRegisterAge = maxRegisterAge * 3 / 4
	// defaultBallots is how many ballots are kept in the cache; one takes
	// about 150 bytes and 120 more for each of its events.
	defaultBallots = 1 << 16
)

// Ledger is what intake needs of a campaign's ledger; *eventstore.Ledger is
// one. Append returns only after the event is durable, orders all events, and
// lets exactly one of several appends with one expectation win; it resolves
// unknown outcomes itself as long as its context lasts. Reads with
// eventstore.Leader see everything that was acknowledged before they began.
type Ledger interface {
	Append(ctx context.Context, m eventstore.Message, expected uint64) (eventstore.Appended, error)
	History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error)
	Last(ctx context.Context, subject string, read eventstore.Read) (eventstore.Recorded, bool, error)
	// Count is how many events the leader has of a subject.
	Count(ctx context.Context, subject string) (uint64, error)
	// Control is what Append answers beside the sequence, for an event that was
	// recorded before.
	Control(ctx context.Context, subject string, sequence uint64) (uint64, error)
	// Replay gives the events from one sequence to another, in order and without
	// a gap. Their Data may be kept. An import reads ahead only when it tells their
	// subjects, as eventstore.WithSubjects does.
	Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error
}

// Config is what an Intake is made of.
type Config struct {
	Campaign string
	Ledger   Ledger
	Codec    *domain.Codec
	Key      *domain.PseudonymKey // nil: nobody can vote, annulments are possible
	Now      func() time.Time     // nil: time.Now
	Ballots  int                  // how many ballots to cache; 0: defaultBallots
}

// Command is a submission as a channel sends it.
type Command struct {
	Action       domain.Action
	Voter        string // the person's id; empty for a channel without identity
	VoterOrSlip  string // instead of Voter: the same, or the slip's submission id where the channel knows no identity
	Specialist   string
	Vote         uint64 // a retraction may name the vote by its sequence instead of the specialist
	Channel      string
	SubmissionID string    // the channel's own id; empty: this is no retry of anything, and no slip
	At           time.Time // when the voter acted, where the channel may state it
	Order        *Order    // the other rows of an import, or nil
	// Before, unless nil, is asked in each attempt, after the voter's ballot was
	// read and before it is decided on. Its error ends Submit, and nothing was
	// recorded. What it sees of the voter's earlier commands is not older than
	// the ballot, for an event that came after the ballot makes the append a
	// conflict, and another attempt asks again.
	Before func(ctx context.Context) error
}

// Receipt says where a command was recorded.
type Receipt struct {
	Campaign   string    `json:"campaign"`
	Sequence   uint64    `json:"sequence"` // the receipt number
	EventID    uuid.UUID `json:"event_id"`
	Specialist string    `json:"specialist_id,omitempty"` // whom a vote or a retraction is about
	RecordedAt time.Time `json:"recorded_at"`
	Known      bool      `json:"known"` // it had been recorded before
}

var (
	// ErrNoKey says that the campaign's pseudonym key is not here.
	ErrNoKey = errors.New("the campaign's pseudonym key is missing; without it nobody can vote")
	// ErrOver says, beside ErrNoKey, that the campaign is closed: nobody will bring
	// the key, which may have been destroyed.
	ErrOver = errors.New("the campaign is over")
	// ErrWrongKey says that the key is another campaign's.
	ErrWrongKey = errors.New("the pseudonym key is not this campaign's; with it everybody could vote twice")
	// ErrNotOpened says that a campaign's ledger is there, but not its first
	// event: `campaign open` was interrupted.
	ErrNotOpened = errors.New("its ledger has no campaign.opened; run the same `paldies campaign open` again")
	// ErrContention says that other events of the same voter kept coming
	// first. Nothing was recorded; try later.
	ErrContention = errors.New("other submissions of this voter keep coming first")
)

// InvalidError says that a command is malformed. Asking again changes nothing.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }
func (e *InvalidError) Unwrap() error { return e.Err }

// NotAllowedError says that the campaign's rules do not allow what an organiser
// asks for. Nothing was recorded, and asking again changes nothing.
type NotAllowedError struct{ Err error }

func (e *NotAllowedError) Error() string { return e.Err.Error() }
func (e *NotAllowedError) Unwrap() error { return e.Err }

// Intake takes the commands of one campaign. It is safe for concurrent use.
type Intake struct {
	cfg      Config
	register register
	ballots  ballots
	turns    turns
}

// New reads the campaign from the ledger's leader and checks the key.
func New(ctx context.Context, cfg Config) (*Intake, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Ballots == 0 {
		cfg.Ballots = defaultBallots
	}
	in := &Intake{cfg: cfg}
	in.register.source, in.register.refreshes, in.register.proofs = cfg, newShared(), newShared()
	in.ballots.limit = cfg.Ballots
	if err := in.register.refresh(ctx); err != nil {
		return nil, err
	}
	campaign := in.register.current().Campaign()
	if campaign.Status == domain.StatusNone {
		return nil, fmt.Errorf("campaign %s: %w", cfg.Campaign, ErrNotOpened)
	}
	if cfg.Key != nil && cfg.Key.ID() != campaign.KeyID {
		return nil, fmt.Errorf("campaign %s: %w", cfg.Campaign, ErrWrongKey)
	}
	return in, nil
}

// WithoutKey is what there is to say when the campaign's key is not here, for the
// reason that is given: ErrNoKey, and ErrOver when the campaign is closed.
func WithoutKey(ctx context.Context, cfg Config, reason error) error {
	missing := fmt.Errorf("%w: %w", ErrNoKey, reason)
	cfg.Key = nil
	in, err := New(ctx, cfg)
	if err != nil {
		return errors.Join(missing, err)
	}
	if in.Register().Campaign().Status != domain.StatusOpen {
		return fmt.Errorf("%w, %w", missing, ErrOver)
	}
	return missing
}

// Register is the campaign and its specialists as this intake knows them. It
// must not be changed.
func (in *Intake) Register() *domain.Register { return in.register.current() }

// Recent is the Register, read anew from the leader so that it is not older than a
// second.
func (in *Intake) Recent(ctx context.Context) (*domain.Register, error) {
	if err := in.register.renew(ctx, in.cfg.Now()); err != nil {
		return nil, err
	}
	return in.Register(), nil
}

// Submit decides a command and records what comes of it. The error is a
// *domain.Refusal when the rules say no, *InvalidError when the command is
// malformed, eventstore.ErrOutcomeUnknown when only a retry with the same
// submission id can tell, and otherwise a fault after which nothing was
// recorded.
func (in *Intake) Submit(ctx context.Context, cmd Command) (Receipt, error) {
	if err := in.renew(ctx, cmd.Channel); err != nil {
		return Receipt{}, err
	}
	s, err := in.submission(cmd)
	if err != nil {
		return Receipt{}, err
	}
	return in.decideAndRecord(ctx, s.Voter, rules{before: cmd.Before, decide: func(r *domain.Register, b domain.Ballot) (domain.Decision, error) {
		return decide(r, b, s, cmd.Order)
	}})
}

// renew makes the register new enough to decide on. It comes before the
// pseudonym: a channel that was added a moment ago says how its voters are
// known, and one that is not known must be asked for.
func (in *Intake) renew(ctx context.Context, channel string) error {
	if _, ok := in.Register().Campaign().Channel(channel); !ok {
		return in.register.refresh(ctx)
	}
	return in.register.renew(ctx, in.cfg.Now())
}

// Annul records an auditor's removal of one vote. Errors are those of Submit;
// an annulment that is recorded already is answered with its receipt.
func (in *Intake) Annul(ctx context.Context, a domain.Annulment) (Receipt, error) {
	a.RecordedAt = domain.Timestamp(in.cfg.Now())
	if err := in.register.renew(ctx, in.cfg.Now()); err != nil {
		return Receipt{}, err
	}
	return in.decideAndRecord(ctx, a.Voter, rules{decide: func(r *domain.Register, b domain.Ballot) (domain.Decision, error) {
		return domain.DecideAnnulment(r, b, a)
	}})
}

// rules are what a command is decided by.
type rules struct {
	before func(ctx context.Context) error // nil, or see Command.Before
	decide func(*domain.Register, domain.Ballot) (domain.Decision, error)
}

// decideAndRecord is the life of a command: load, decide, append, and again
// when another event of the voter came first.
func (in *Intake) decideAndRecord(ctx context.Context, voter domain.Pseudonym, by rules) (Receipt, error) {
	read, confirmed := eventstore.AnyReplica, false
	for attempt := range maxAttempts {
		receipt, refusal, err := in.attempt(ctx, voter, read, by)
		switch {
		case refusal != nil && !confirmed:
			// A follower, or a cache, may be behind: ask the leader once.
			if err := in.register.refresh(ctx); err != nil {
				return Receipt{}, err
			}
			read, confirmed = eventstore.Leader, true
			continue
		case refusal != nil:
			return Receipt{}, refusal
		case !errors.Is(err, eventstore.ErrConflict):
			return receipt, err
		}
		read = eventstore.Leader
		if err := pause(ctx, attempt); err != nil {
			return Receipt{}, err
		}
	}
	return Receipt{}, fmt.Errorf("campaign %s: %w", in.cfg.Campaign, ErrContention)
}

// attempt decides on the ballot as it is read now, and records what is not
// refused. Who goes by what is known here waits for the voter's turn; who asks
// the leader has waited already.
func (in *Intake) attempt(ctx context.Context, voter domain.Pseudonym, read eventstore.Read, by rules) (Receipt, *domain.Refusal, error) {
	if read == eventstore.AnyReplica {
		turn, err := in.turns.take(ctx, voter)
		if err != nil {
			return Receipt{}, nil, err
		}
		defer in.turns.give(voter, turn)
	}
	r := in.register.current()
	h, err := in.load(ctx, r.Campaign(), voter, read)
	if err != nil {
		return Receipt{}, nil, err
	}
	if by.before != nil {
		if err := by.before(ctx); err != nil {
			return Receipt{}, nil, err
		}
	}
	decision, err := by.decide(r, h.ballot)
	var refusal *domain.Refusal
	switch {
	case errors.As(err, &refusal):
		return Receipt{}, refusal, nil
	case err != nil:
		return Receipt{}, nil, &InvalidError{err}
	case decision.Recorded != 0:
		receipt, err := in.known(ctx, decision.Recorded, h.ballot)
		return receipt, nil, err
	}
	receipt, err := in.record(ctx, voter, decision.Event, h)
	return receipt, nil, err
}

// submission replaces the identity by the pseudonym. A channel that the
// campaign does not have is a refusal already here: how its voters would be
// known, nobody can say.
func (in *Intake) submission(cmd Command) (domain.Submission, error) {
	if in.cfg.Key == nil {
		return domain.Submission{}, fmt.Errorf("campaign %s: %w", in.cfg.Campaign, ErrNoKey)
	}
	channel, ok := in.Register().Campaign().Channel(cmd.Channel)
	if !ok {
		return domain.Submission{}, &domain.Refusal{Code: domain.ChannelNotAccepted}
	}
	cmd, err := named(cmd, channel)
	if err != nil {
		return domain.Submission{}, &InvalidError{err}
	}
	voter, err := in.pseudonym(cmd, channel)
	if err != nil {
		return domain.Submission{}, &InvalidError{err}
	}
	s := domain.Submission{
		Action: cmd.Action, Voter: voter, Specialist: cmd.Specialist, Vote: cmd.Vote, Channel: cmd.Channel,
		ID: cmd.SubmissionID, RecordedAt: domain.Timestamp(in.cfg.Now()),
	}
	if !cmd.At.IsZero() {
		s.At = domain.Timestamp(cmd.At)
	}
	return s, nil
}

// named is a command that says in Voter and SubmissionID whose it is. A slip
// that had no id would be another one with each retry.
func named(cmd Command, channel domain.Channel) (Command, error) {
	slip := channel.Identity == domain.NoIdentity
	switch {
	case cmd.VoterOrSlip != "" && !slip:
		cmd.Voter = cmd.VoterOrSlip
	case cmd.VoterOrSlip != "" && cmd.SubmissionID != "" && cmd.SubmissionID != cmd.VoterOrSlip:
		return cmd, fmt.Errorf("channel %s has no identity: the submission id is the slip's", channel.Name)
	case cmd.VoterOrSlip != "":
		cmd.SubmissionID = cmd.VoterOrSlip
	}
	switch {
	case cmd.SubmissionID == "" && slip:
		return cmd, fmt.Errorf("channel %s has no identity: a submission id is needed, it is the slip's", channel.Name)
	case cmd.SubmissionID == "":
		cmd.SubmissionID = uuid.Must(uuid.NewV7()).String()
	}
	return cmd, nil
}

// pseudonym is the slip's own where the channel knows no identity.
func (in *Intake) pseudonym(cmd Command, channel domain.Channel) (domain.Pseudonym, error) {
	if channel.Identity != domain.NoIdentity {
		return in.cfg.Key.Voter(cmd.Voter)
	}
	if cmd.Voter != "" {
		return domain.Pseudonym{}, fmt.Errorf("channel %s has no identity: leave the voter empty", cmd.Channel)
	}
	return in.cfg.Key.Slip(cmd.Channel, cmd.SubmissionID)
}

// decide is domain.Decide. A row of an import must be acceptable on the ballot as
// it was when the voter acted, too.
func decide(r *domain.Register, b domain.Ballot, s domain.Submission, order *Order) (domain.Decision, error) {
	if order != nil {
		if then := order.then(b, s.At); len(then) < len(b) {
			if d, err := domain.Decide(r, then, s); err != nil || d.Recorded != 0 {
				return d, err
			}
		}
	}
	return domain.Decide(r, b, s)
}

// record appends the event and looks at the fence.
func (in *Intake) record(ctx context.Context, voter domain.Pseudonym, e domain.Event, h history) (Receipt, error) {
	data, err := domain.Encode(e)
	if err != nil {
		return Receipt{}, &InvalidError{err}
	}
	appended, err := in.cfg.Ledger.Append(ctx, eventstore.Message{Subject: domain.Subject(e), Data: data}, h.last)
	if err != nil {
		return Receipt{}, fmt.Errorf("campaign %s: %w", in.cfg.Campaign, afterSeal(err))
	}
	if err := in.register.confirm(ctx, appended.Sequence, appended.Control); err != nil {
		return Receipt{}, fmt.Errorf("campaign %s: %w: %w", in.cfg.Campaign, eventstore.ErrOutcomeUnknown, err)
	}
	b, err := h.ballot.Evolve(appended.Sequence, e)
	if err != nil {
		return Receipt{}, fmt.Errorf("campaign %s: %w", in.cfg.Campaign, err)
	}
	if err := in.counts(b[len(b)-1]); err != nil {
		return Receipt{}, err
	}
	if !h.afterClose {
		in.ballots.put(voter, history{ballot: b, last: appended.Sequence})
	}
	return Receipt{Campaign: in.cfg.Campaign, Sequence: appended.Sequence, EventID: e.ID, Specialist: b[len(b)-1].Specialist, RecordedAt: e.Time}, nil
}

// known is the receipt of an event that was recorded before.
func (in *Intake) known(ctx context.Context, sequence uint64, b domain.Ballot) (Receipt, error) {
	if err := in.register.confirm(ctx, sequence, 0); err != nil {
		return Receipt{}, fmt.Errorf("campaign %s: %w: %w", in.cfg.Campaign, eventstore.ErrOutcomeUnknown, err)
	}
	e, _ := b.At(sequence)
	if err := in.counts(e); err != nil {
		return Receipt{}, err
	}
	return Receipt{Campaign: in.cfg.Campaign, Sequence: sequence, EventID: e.ID, Specialist: e.Specialist, RecordedAt: e.RecordedAt, Known: true}, nil
}

// counts says whether a recorded event lies below its fence. Above it, a vote is
// refused; an annulment is decided again, for it belongs on the other subject,
// unless it was there already.
func (in *Intake) counts(e domain.Entry) error {
	c := in.Register().Campaign()
	switch {
	case !e.Void(c):
		return nil
	case e.AfterClose:
		return &domain.Refusal{Code: domain.ClosedCampaign, Sequence: c.ArchivedAt}
	case e.Annuls:
		return eventstore.ErrConflict
	}
	return &domain.Refusal{Code: domain.ClosedCampaign, Sequence: c.ClosedAt}
}

// pause waits a random time that grows with the attempts, so that writers on
// one ballot get out of each other's way.
func pause(ctx context.Context, attempt int) error {
	longest := min(conflictPause<<min(attempt, 10), maxConflictPause)
	timer := time.NewTimer(rand.N(longest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
