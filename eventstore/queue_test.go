package eventstore

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func newRequest(subject string) *request {
	return &request{message: Message{Subject: subject}, answer: make(chan outcome, 1)}
}

// mustAdd puts n requests with different subjects into the queue.
func mustAdd(t *testing.T, q *queue, name string, n int) []*request {
	t.Helper()
	var rs []*request
	for i := range n {
		r := newRequest(fmt.Sprintf("%s.%d", name, i))
		if err := q.add(r); err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

func TestQueueKeepsASubjectTogether(t *testing.T) {
	q := newQueue(10)
	first, second, third := newRequest("ā"), newRequest("ā"), newRequest("ā")
	other := newRequest("b")
	for _, r := range []*request{first, second, third, other} {
		if err := q.add(r); err != nil {
			t.Fatal(err)
		}
	}
	if got := q.take(); !slices.Equal(got, []*request{first, other}) {
		t.Fatalf("took %d requests, want the first of each subject", len(got))
	}
	if !q.withdraw(second) || q.withdraw(second) || q.withdraw(first) {
		t.Error("only what waits can be withdrawn, and once")
	}
	q.release(first, other)
	q.finished(false, 2, 0)
	if got := q.take(); !slices.Equal(got, []*request{third}) {
		t.Fatalf("took %d requests, want what is left on the subject", len(got))
	}
	q.release(third)
	q.finished(false, 1, 0)
	if len(q.chains) > 0 || q.waiting > 0 {
		t.Errorf("%d subjects and %d requests are left over", len(q.chains), q.waiting)
	}
}

func TestQueueWithdrawsTheFirstOfASubject(t *testing.T) {
	q := newQueue(10)
	first, second := newRequest("ā"), newRequest("ā")
	if err := errors.Join(q.add(first), q.add(second)); err != nil {
		t.Fatal(err)
	}
	if !q.withdraw(first) {
		t.Fatal("what waits can be withdrawn")
	}
	if got := q.take(); !slices.Equal(got, []*request{second}) {
		t.Fatalf("took %d requests, want the one that came next", len(got))
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := newQueue(2)
	rs := mustAdd(t, q, "q", 2)
	if err := q.add(newRequest("b")); !errors.Is(err, ErrBusy) {
		t.Errorf("a third request: %v", err)
	}
	q.withdraw(rs[0])
	if err := q.add(newRequest("b")); err != nil {
		t.Errorf("after one was withdrawn: %v", err)
	}
	q.close()
	if err := q.add(newRequest("c")); !errors.Is(err, ErrClosed) {
		t.Errorf("after the close: %v", err)
	}
}

func TestQueueWaitsForThoseWhoWereAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time stands still while anybody runs
		q := newQueue(10)
		first := mustAdd(t, q, "first", 2)
		q.take()
		q.release(first...)
		q.finished(false, 2, time.Hour)
		mustAdd(t, q, "back", 1)
		taken := make(chan int)
		go func() { taken <- len(q.take()) }()
		mustAdd(t, q, "late", 1)
		if got := <-taken; got != 2 {
			t.Errorf("took %d, want both whose callers came back", got)
		}
	})
}

func TestQueueLaunches(t *testing.T) {
	q := newQueue(10 * MaxBatchEvents)
	if q.launchable() {
		t.Error("nothing waits, but a commit begins")
	}
	mustAdd(t, q, "viens", 1)
	if got := q.take(); len(got) != 1 {
		t.Fatalf("took %d, want what is alone at once", len(got))
	}
	mustAdd(t, q, "daži", fullBatchEvents-1)
	if q.launchable() {
		t.Error("a second commit begins for few events")
	}
	q.stall()
	if !q.launchable() {
		t.Error("a commit that has stalled keeps others waiting")
	}
	q.take()
	mustAdd(t, q, "daudzi", 3*MaxBatchEvents)
	for range maxCommits - 2 {
		if got := q.take(); len(got) != MaxBatchEvents {
			t.Fatalf("took %d, want a full batch", len(got))
		}
	}
	if q.launchable() {
		t.Errorf("more than %d commits are under way", maxCommits)
	}
	q.finished(true, 1, time.Hour)
	if !q.launchable() || q.stalled != 0 {
		t.Error("a commit has ended, but no other begins")
	}
}
