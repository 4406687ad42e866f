package eventstore

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// maxProbes is how many subjects one question is about; the server takes 1024.
const maxProbes = 1000

// prober asks about many subjects at once whether there is anything on them.
// Most voters are new, and a question about a thousand new ones costs the
// server less than thirty that are asked one by one.
//
// It has no timer: who comes alone reads at once; who comes while others read
// waits for them and is asked about together with all who came meanwhile. There
// is always one who reads, and who has read lets the next group begin.
type prober struct {
	mu      sync.Mutex // guards what follows
	reading bool
	waiting []*probe

	spare sync.Pool // of *probe that nobody knows any more
}

// probe is one question on its way.
type probe struct {
	subject string
	answer  chan probed // has room for the one answer
}

// probed is what somebody who waited is told.
type probed struct {
	absent bool     // nothing was on the subject
	group  []*probe // not nil: whose questions the receiver has to ask, its own among them
}

// absent reports that there was nothing on a subject, as any replica knows it.
// False says nothing: the caller reads the subject, and then calls done.
func (l *Ledger) absent(ctx context.Context, subject string) (absent bool, done func()) {
	mine := l.probes.enter(subject)
	if mine == nil {
		return false, l.probes.leave
	}
	var told probed
	select {
	case told = <-mine.answer:
	case <-ctx.Done():
		if l.probes.withdraw(mine) {
			return false, func() {}
		}
		told = <-mine.answer // it is there, or about to be
	}
	if told.group != nil {
		defer l.probes.leave()
		told.absent = l.askFor(ctx, told.group, mine)
	}
	l.probes.spare.Put(mine) // its answer was taken, and there is one only
	return told.absent, func() {}
}

// askFor asks the questions of a group and tells all but mine what came of it.
func (l *Ledger) askFor(ctx context.Context, group []*probe, mine *probe) (absent bool) {
	subjects := make([]string, len(group))
	for i, p := range group {
		subjects[i] = p.subject
	}
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

// enter is nil for who comes alone.
func (p *prober) enter(subject string) *probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reading {
		p.reading = true
		return nil
	}
	mine, ok := p.spare.Get().(*probe)
	if !ok {
		mine = &probe{answer: make(chan probed, 1)}
	}
	mine.subject = subject
	p.waiting = append(p.waiting, mine)
	return mine
}

// leave lets one of those who wait ask for all of them.
func (p *prober) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.reading = false
		return
	}
	n := min(len(p.waiting), maxProbes)
	group := slices.Clone(p.waiting[:n])
	p.waiting = slices.Delete(p.waiting, 0, n)
	group[0].answer <- probed{group: group}
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

// single reports whether a subject has no wildcards.
func single(subject string) bool { return !strings.ContainsAny(subject, "*>") }
