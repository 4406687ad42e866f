package credential

import (
	"math"
	"testing"
	"time"
)

func TestAllow(t *testing.T) {
	c := &Credential{Rate: 2, Burst: 3}
	c.limit(nil)
	for i := range 3 {
		if ok, after := c.allowAt(moment); !ok || after != 0 {
			t.Fatalf("request %d: %v, %v", i, ok, after)
		}
	}
	for range 10 { // Who is turned away makes nobody wait longer.
		ok, after := c.allowAt(moment)
		if ok || math.Abs((after-500*time.Millisecond).Seconds()) > 1e-6 {
			t.Fatalf("the fourth request: %v, %v", ok, after)
		}
	}
	if ok, _ := c.allowAt(moment.Add(501 * time.Millisecond)); !ok {
		t.Error("half a second later there is none")
	}
	changed := &Credential{Rate: 2, Burst: 3, Revoked: moment}
	changed.limit(c)
	if ok, _ := changed.allowAt(moment.Add(501 * time.Millisecond)); ok {
		t.Error("a change has filled the bucket")
	}
	other := &Credential{Rate: 0.5}
	other.limit(c)
	if ok, _ := other.allowAt(moment); !ok {
		t.Error("another rate has no bucket of its own")
	}
	if ok, after := other.allowAt(moment); ok || after.Round(time.Millisecond) != 2*time.Second {
		t.Errorf("at a request in two seconds: %v, %v", ok, after)
	}
	slow := &Credential{Rate: 1e-300, Burst: 1}
	slow.limit(nil)
	slow.allowAt(moment)
	if ok, after := slow.allowAt(moment); ok || after != maxRetryAfter {
		t.Errorf("at next to nothing: %v, %v", ok, after)
	}
	var free Credential
	free.limit(nil)
	for range 1000 {
		if ok, _ := free.allowAt(moment); !ok {
			t.Fatal("a credential without a limit has one")
		}
	}
}
