package eventstore

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// maxProbes is how many subjects one question is about; the server takes 1024.
	maxProbes = 1000
	// probePatience is how long others wait for somebody who reads before they ask
	// together without that one, and how long the first question for many may take.
	// Who reads may have asked a replica that is gone, which is noticed in seconds
	// only.
	probePatience = 50 * time.Millisecond
)

// prober asks about many subjects at once whether there is anything on them.
// Most voters are new, and a question about a thousand new ones costs the
// server less than thirty that are asked one by one.
//
// Nobody is delayed so that others may come: who comes alone reads at once; who
// comes while somebody reads waits for that one and is asked about together with
// all who came meanwhile. Who has read lets the next group begin. For a reader who
// is overdue nobody waits: the next group begins beside it. It is never taken apart
// into questions of one subject each, for they would be late the more; it was seen
// that a pause of 50 ms, as the garbage collector makes it, left 4,000 callers in
// such a jam for good.
type prober struct {
	patience time.Duration // probePatience but for tests

	mu      sync.Mutex // guards what follows
	reader  uint64     // the number of who reads; 0 for nobody
	begun   time.Time  // when that one began
	last    uint64     // the last number that was given
	waiting []*probe

	spare sync.Pool // of *probe that nobody knows any more
}

// probe is one question on its way.
type probe struct {
	subject string
	answer  chan probed // has room for the one answer
	timer   *time.Timer // of the patience
	gone    bool        // nobody takes the answer any more; guarded by prober.mu
}

// probed is what somebody who waited is told.
type probed struct {
	absent bool     // nothing was on the subject
	group  []*probe // not nil: whose questions the receiver has to ask, its own first
	number uint64   // of the receiver as the one who reads
}

// absent reports that there was nothing on a subject, as any replica knows it.
// False says nothing: the caller reads the subject, and then calls done.
func (l *Ledger) absent(ctx context.Context, subject string) (absent bool, done func()) {
	mine, number := l.probes.enter(subject)
	if mine == nil {
		return false, func() { l.probes.leave(number) }
	}
	told, ok := l.probes.wait(ctx, mine)
	if !ok {
		return false, func() {}
	}
	if told.group != nil {
		told.absent = l.askFor(ctx, told)
	}
	l.probes.spare.Put(mine) // its answer was taken, and there is one only
	return told.absent, func() {}
}

// askFor asks the questions of a group, tells all but the first what came of it,
// and returns what came of the first. A question that is late is asked again:
// another replica may take it. When ctx ends, which is the first's, another one of
// the group asks.
func (l *Ledger) askFor(ctx context.Context, told probed) (absent bool) {
	subjects := make([]string, len(told.group))
	for i, p := range told.group {
		subjects[i] = p.subject
	}
	var last map[string]uint64
	patience := l.probes.patience
	err := l.retryRead(ctx, func(ctx context.Context) (err error) {
		ctx, stop := context.WithTimeoutCause(ctx, patience, errNoAnswer)
		defer stop()
		patience *= 2
		last, err = l.lastOfMany(ctx, subjects)
		return err
	})
	if err != nil && ctx.Err() != nil {
		l.probes.handOn(told)
		return false
	}
	missing := func(p *probe) bool {
		_, found := last[p.subject]
		return err == nil && !found
	}
	for _, p := range told.group[1:] {
		p.answer <- probed{absent: missing(p)}
	}
	l.probes.leave(told.number)
	return missing(told.group[0])
}

// enter is a number, and no probe, for who reads now.
func (p *prober) enter(subject string) (mine *probe, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reader == 0 {
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

// overtakeLocked lets the next group begin when who reads is overdue.
func (p *prober) overtakeLocked() {
	if len(p.waiting) > 0 && time.Since(p.begun) > p.patience {
		p.nextLocked()
	}
}

// nextLocked lets the first of those who wait ask for all of them.
func (p *prober) nextLocked() {
	n := min(len(p.waiting), maxProbes)
	group := slices.Clone(p.waiting[:n])
	p.waiting = slices.Delete(p.waiting, 0, n)
	group[0].answer <- probed{group: group, number: p.beginLocked()}
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

// leave lets the next group begin, unless somebody else reads already.
func (p *prober) leave(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaveLocked(number)
}

func (p *prober) leaveLocked(number uint64) {
	switch {
	case p.reader != number:
	case len(p.waiting) == 0:
		p.reader = 0
	default:
		p.nextLocked()
	}
}

// withdraw takes a question back. Whoever is asking it may still answer; who was
// to ask for others hands that on.
func (p *prober) withdraw(mine *probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, mine); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return
	}
	select {
	case told := <-mine.answer:
		if told.group != nil {
			p.handOnLocked(told)
		}
	default:
		mine.gone = true
	}
}

// handOn leaves it to the rest of a group to ask.
func (p *prober) handOn(told probed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handOnLocked(told)
}

func (p *prober) handOnLocked(told probed) {
	rest := slices.DeleteFunc(told.group[1:], func(other *probe) bool { return other.gone })
	p.waiting = append(rest, p.waiting...)
	p.leaveLocked(told.number)
}
