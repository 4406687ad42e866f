package eventstore

import (
	"errors"
	"testing"
)

// at makes requests that were recorded at these sequences.
func at(subject string, sequences ...uint64) []*request {
	var rs []*request
	for _, sequence := range sequences {
		r := newRequest(subject)
		r.sequence = sequence
		rs = append(rs, r)
	}
	return rs
}

func TestFenceKnowsWhatFollows(t *testing.T) {
	const control = "c.campaign"
	var f fence
	steps := []struct {
		what  string
		rs    []*request
		began bool
		end   uint64
	}{
		{"the first events", at("c.voter", 4, 5), true, 5},
		{"what follows, in any order", at("c.voter", 8, 6, 7), false, 8},
		{"after an event of somebody else", at("c.voter", 10), true, 10},
		{"with a gap inside", at("c.voter", 11, 13), true, 13},
		{"a control event", at(control, 14), true, 14},
		{"after it", at("c.voter", 15), false, 15},
		{"found later, recorded earlier", at("c.voter", 12), true, 15},
		{"after that", at("c.voter", 16), true, 16},
		{"and then", at("c.voter", 17), false, 17},
		{"with a control event", append(at("c.voter", 18), at(control, 19)...), true, 19},
	}
	var last *run
	for _, step := range steps {
		run, began := f.join(step.rs, control)
		if began != step.began || f.end != step.end {
			t.Errorf("%s: began %v, end %d, want %v, %d", step.what, began, f.end, step.began, step.end)
		}
		if !began && run != last {
			t.Errorf("%s: another run", step.what)
		}
		if f.run == run {
			last = run
		}
	}
}

func TestFenceForgetsWhatCouldNotBeLearned(t *testing.T) {
	var f fence
	first, _ := f.join(at("c.voter", 1), "c.campaign")
	first.err = errors.New("nobody answers")
	f.leave(first)
	second, began := f.join(at("c.voter", 2), "c.campaign")
	if !began {
		t.Error("an event follows a run about which nothing is known")
	}
	f.leave(first)
	if f.run != second {
		t.Error("the end of an older run ends the newest")
	}
}
