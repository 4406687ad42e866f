package intake

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// history is a ballot with the last sequence of its subject.
type history struct {
	ballot     domain.Ballot
	last       uint64
	afterClose bool // the subject is that of annulments after the close
}

// ballots is a bounded cache. What is evicted is any entry: a voter comes back
// seldom, so that no order of eviction is better than another.
type ballots struct {
	limit int

	mu    sync.Mutex
	known map[domain.Pseudonym]history // guarded by mu
}

func (b *ballots) get(voter domain.Pseudonym) history {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[voter]
}

// put keeps the longer of two histories: two goroutines may have loaded one
// ballot at the same time.
func (b *ballots) put(voter domain.Pseudonym, h history) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, ok := b.known[voter]
	if ok && old.last >= h.last {
		return
	}
	if b.known == nil {
		b.known = make(map[domain.Pseudonym]history)
	}
	if !ok && len(b.known) >= b.limit {
		for any := range b.known {
			delete(b.known, any)
			break
		}
	}
	b.known[voter] = h
}

// Ballot is what a voter did in the campaign, as far as it counts, with
// everything that was acknowledged before. Of the command only the channel and
// the voter matter, or the submission id where the channel knows no identity.
// Errors are those of Submit.
func (in *Intake) Ballot(ctx context.Context, cmd Command) (domain.Ballot, error) {
	if err := in.register.refresh(ctx); err != nil { // what was annulled after a close is elsewhere
		return nil, err
	}
	s, err := in.submission(cmd)
	if err != nil {
		return nil, err
	}
	for {
		c := in.Register().Campaign()
		h, err := in.load(ctx, c, s.Voter, eventstore.Leader)
		if err != nil || len(h.ballot) == 0 {
			return nil, err
		}
		newest := h.ballot[len(h.ballot)-1].Sequence
		if err := in.register.confirm(ctx, newest, 0); err != nil {
			return nil, fmt.Errorf("campaign %s: %w", in.cfg.Campaign, err)
		}
		if now := in.Register().Campaign(); now.ClosedAt == c.ClosedAt { // a campaign is closed once
			return h.ballot.Counting(now), nil
		}
	}
}

// load is the voter's ballot as it counts in the campaign, with the last
// sequence of the subject on which its next event belongs. After the close
// that is the subject of annulments, and what lies above the fence on the
// voter's own is not part of the ballot.
func (in *Intake) load(ctx context.Context, c *domain.Campaign, voter domain.Pseudonym, read eventstore.Read) (history, error) {
	if c.ClosedAt != 0 {
		// Appends after the close expect nothing of the voter's own subject, so
		// that no conflict would show what a cache or a follower lacks.
		read = eventstore.Leader
	}
	h, err := in.loadVoter(ctx, voter, read)
	if err != nil || c.ClosedAt == 0 {
		return h, err
	}
	h = history{ballot: h.ballot.Before(c.ClosedAt + 1), afterClose: true}
	return in.extend(ctx, h, domain.AnnulmentSubject(c.ID, voter), eventstore.Leader)
}

// loadVoter takes the ballot from the cache, unless the leader is to be asked;
// then only for what is new.
func (in *Intake) loadVoter(ctx context.Context, voter domain.Pseudonym, read eventstore.Read) (history, error) {
	cached := in.ballots.get(voter)
	if cached.last != 0 && read != eventstore.Leader {
		return cached, nil
	}
	h, err := in.extend(ctx, cached, domain.VoterSubject(in.cfg.Campaign, voter), read)
	if err == nil && h.last != cached.last {
		in.ballots.put(voter, h)
	}
	return h, err
}

// extend reads what a subject has above the history.
func (in *Intake) extend(ctx context.Context, h history, subject string, read eventstore.Read) (history, error) {
	news, err := in.cfg.Ledger.History(ctx, subject, h.last, read)
	if err != nil {
		return history{}, fmt.Errorf("campaign %s: read a ballot: %w", in.cfg.Campaign, err)
	}
	if h, err = in.fold(h, news); err != nil {
		return history{}, fmt.Errorf("campaign %s: %w", in.cfg.Campaign, err)
	}
	return h, nil
}

// learn puts a ballot into the cache that was read with others. Like any that is
// there it may be behind. What cannot be folded is left to who asks for the
// voter's ballot.
func (in *Intake) learn(voter domain.Pseudonym, recorded []eventstore.Recorded) {
	if h, err := in.fold(history{}, recorded); err == nil && h.last != 0 {
		in.ballots.put(voter, h)
	}
}

// fold is the history after more events of its subject.
func (in *Intake) fold(h history, news []eventstore.Recorded) (history, error) {
	if len(news) == 0 {
		return h, nil
	}
	var unreadable error
	ballot, err := h.ballot.Fold(len(news), func(yield func(uint64, domain.Event) bool) {
		for _, rec := range news {
			e, err := in.cfg.Codec.Decode(rec.Data)
			if err != nil {
				unreadable = fmt.Errorf("event %d: %w", rec.Sequence, err)
				return
			}
			if !yield(rec.Sequence, e) {
				return
			}
		}
	})
	if err = cmp.Or(unreadable, err); err != nil {
		return history{}, err
	}
	return history{ballot: ballot, last: news[len(news)-1].Sequence, afterClose: h.afterClose}, nil
}
