package eventstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// maxProbes is how many subjects one question is about; the server takes 1024.
	maxProbes = 1000
	// probePatience is how long others wait for somebody who reads before they are
	// asked about without that one, and how long the first question for many may
	// take. Who reads may have asked a replica that is gone, which is noticed in
	// seconds only.
	probePatience = 50 * time.Millisecond
)

// prober asks about many subjects at once whether there is anything on them.
// Most voters are new, and a question about a thousand new ones costs the
// server less than thirty that are asked one by one.
//
// Nobody is delayed so that others may come: who comes alone reads at once; who
// comes while somebody reads waits for that one and is asked about together with
// all who came meanwhile. When that one has read the next group is asked about. For
// a reader who is overdue nobody waits: the next group comes beside it. A group is
// never taken apart into questions of one subject each, for they would be late the
// more; it was seen that a pause of 50 ms, as the garbage collector makes it, left
// 4,000 callers in such a jam for good.
type prober struct {
	// ask is the last sequence of each of these subjects that has one.
	ask      func(subjects []string) (map[string]uint64, error)
	patience time.Duration // probePatience but for tests

	mu      sync.Mutex // guards what follows
	reader  uint64     // the number of who reads; 0 for nobody, and then nobody waits
	begun   time.Time  // when that one began
	last    uint64     // the last number that was given
	waiting []*probe
	closed  bool

	asking sync.WaitGroup // groups that are asked about
	spare  sync.Pool      // of *probe that nobody knows any more
}

// probe is one question on its way.
type probe struct {
	subject string
	answer  chan probed // has room for the one answer
	timer   *time.Timer // of the patience
}

// probed is what somebody who waited is told.
type probed struct {
	absent bool // nothing was on the subject
	err    error
}

// absent reports that there was nothing on a subject, as any replica knows it.
// False says nothing: the caller reads the subject, and then calls done. The error
// is ErrUnavailable or ErrClosed, and is the same for all who were asked about
// together.
func (p *prober) absent(ctx context.Context, subject string) (absent bool, done func(), err error) {
	mine, number := p.enter(subject)
	if mine == nil {
		return false, func() { p.leave(number) }, nil
	}
	told, ok := p.wait(ctx, mine)
	if ok {
		p.spare.Put(mine) // its answer was taken, and there is one only
	}
	if !errors.Is(told.err, ErrUnavailable) && !errors.Is(told.err, ErrClosed) {
		told.err = nil // one of the subjects is not to be read like this: each is read by itself
	}
	return told.absent, func() {}, told.err
}

// enter is a number, and no probe, for who reads now.
func (p *prober) enter(subject string) (mine *probe, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reader == 0 || p.closed {
		return nil, p.beginLocked()
	}
	mine, ok := p.spare.Get().(*probe)
	if !ok {
		mine = &probe{answer: make(chan probed, 1), timer: time.NewTimer(p.patience)}
	}
	mine.subject = subject
	mine.timer.Reset(p.patience)
	p.waiting = append(p.waiting, mine)
	p.overtakeLocked()
	return mine, 0
}

func (p *prober) beginLocked() (number uint64) {
	p.last++
	p.reader, p.begun = p.last, time.Now()
	return p.reader
}

// overtakeLocked lets the next group come when who reads is overdue.
func (p *prober) overtakeLocked() {
	if len(p.waiting) > 0 && time.Since(p.begun) > p.patience {
		p.nextLocked()
	}
}

// nextLocked has the next group of those who wait asked about.
func (p *prober) nextLocked() {
	n := min(len(p.waiting), maxProbes)
	group, number := slices.Clone(p.waiting[:n]), p.beginLocked()
	p.waiting = slices.Delete(p.waiting, 0, n)
	p.asking.Go(func() {
		p.askFor(group)
		p.leave(number)
	})
}

// askFor asks about a group and tells each what came of it.
func (p *prober) askFor(group []*probe) {
	subjects := make([]string, len(group))
	for i, other := range group {
		subjects[i] = other.subject
	}
	last, err := p.ask(subjects)
	for i, other := range group {
		_, found := last[subjects[i]]
		other.answer <- probed{absent: err == nil && !found, err: err}
	}
}

// wait is what a probe is told, or not ok when ctx ends before.
func (p *prober) wait(ctx context.Context, mine *probe) (told probed, ok bool) {
	defer mine.timer.Stop()
	for {
		select {
		case told = <-mine.answer:
			return told, true
		case <-mine.timer.C:
			p.mu.Lock()
			p.overtakeLocked()
			p.mu.Unlock()
			mine.timer.Reset(p.patience)
		case <-ctx.Done():
			p.withdraw(mine)
			return probed{}, false
		}
	}
}

// withdraw takes a question back that is not being asked yet.
func (p *prober) withdraw(mine *probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, mine); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
}

// leave has the next group asked about, unless somebody else reads already.
func (p *prober) leave(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.reader != number:
	case len(p.waiting) == 0:
		p.reader = 0
	default:
		p.nextLocked()
	}
}

// close tells those who wait that it is over, and waits for those who are asked
// about. Who asks must have been told to end.
func (p *prober) close() {
	p.mu.Lock()
	p.closed = true
	for _, other := range p.waiting {
		other.answer <- probed{err: ErrClosed}
	}
	p.waiting = nil
	p.mu.Unlock()
	p.asking.Wait()
}

// lastKnown is lastOfMany for a prober. A question that is late is asked again:
// another replica may take it.
func (l *Ledger) lastKnown(subjects []string) (last map[string]uint64, err error) {
	patience := l.probes.patience
	err = l.retryRead(l.ctx, func(ctx context.Context) (err error) {
		ctx, stop := context.WithTimeoutCause(ctx, patience, errNoAnswer)
		defer stop()
		patience *= 2
		last, err = l.lastOfMany(ctx, subjects)
		return err
	})
	return last, err
}
