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
	// probePatience is how long anybody waits for others who read, in time, and
	// how long a question for many may take. Who reads may have asked a replica
	// that is gone, which is noticed in seconds only.
	probePatience = 50 * time.Millisecond
)

// prober asks about many subjects at once whether there is anything on them.
// Most voters are new, and a question about a thousand new ones costs the
// server less than thirty that are asked one by one.
//
// Nobody is delayed so that others may come: who comes alone reads at once; who
// comes while somebody reads waits for that one and is asked about together with
// all who came meanwhile. Who has read lets the next group begin. A reader who
// is overdue is not waited for any more.
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
}

// probed is what somebody who waited is told.
type probed struct {
	absent bool     // nothing was on the subject
	group  []*probe // not nil: whose questions the receiver has to ask, its own among them
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
		told.absent = l.askFor(told.group, mine)
		l.probes.leave(told.number)
	}
	l.probes.spare.Put(mine) // its answer was taken, and there is one only
	return told.absent, func() {}
}

// askFor asks the questions of a group and tells all but mine what came of it.
// It asks for many, so it does not end with the caller's context.
func (l *Ledger) askFor(group []*probe, mine *probe) (absent bool) {
	subjects := make([]string, len(group))
	for i, p := range group {
		subjects[i] = p.subject
	}
	ctx, stop := context.WithTimeout(l.ctx, l.probes.patience)
	defer stop()
	last, err := l.lastOfMany(ctx, subjects)
	for _, p := range group {
		_, found := last[p.subject]
		if p == mine {
			absent = err == nil && !found
			continue
		}
		p.answer <- probed{absent: err == nil && !found}
	}
	return absent
}

// enter is a number, and no probe, for who reads now.
func (p *prober) enter(subject string) (mine *probe, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reader == 0 || time.Since(p.begun) > p.patience {
		return nil, p.beginLocked()
	}
	mine, ok := p.spare.Get().(*probe)
	if !ok {
		mine = &probe{answer: make(chan probed, 1), timer: time.NewTimer(p.patience)}
	}
	mine.subject = subject
	mine.timer.Reset(p.patience)
	p.waiting = append(p.waiting, mine)
	return mine, 0
}

func (p *prober) beginLocked() (number uint64) {
	p.last++
	p.reader, p.begun = p.last, time.Now()
	return p.reader
}

// wait is what a probe is told, or not ok when nobody will tell it anything.
func (p *prober) wait(ctx context.Context, mine *probe) (told probed, ok bool) {
	defer mine.timer.Stop()
	select {
	case told = <-mine.answer:
		return told, true
	case <-mine.timer.C:
	case <-ctx.Done():
	}
	if p.withdraw(mine) {
		return probed{}, false
	}
	return <-mine.answer, true // it is there, or being asked for, which is short
}

// leave lets one of those who wait ask for all of them, unless somebody else
// reads already.
func (p *prober) leave(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.reader != number:
		return
	case len(p.waiting) == 0:
		p.reader = 0
		return
	}
	n := min(len(p.waiting), maxProbes)
	group := slices.Clone(p.waiting[:n])
	p.waiting = slices.Delete(p.waiting, 0, n)
	group[0].answer <- probed{group: group, number: p.beginLocked()}
}

// withdraw takes back a question that is not being asked yet, and reports
// whether that was so.
func (p *prober) withdraw(mine *probe) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiting, mine)
	if i < 0 {
		return false
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	return true
}
