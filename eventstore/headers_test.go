package eventstore_test

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// TestHiddenHeaders: an empty line among an event's headers hides those of the
// server, and what comes before it may look like them.
func TestHiddenHeaders(t *testing.T) {
	s, config := storetest.NewServer(t), storetest.Config("LEDGER_hidden", 1)
	nc := s.Connect(t)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	ledger, subject := open(t, nc, config), storetest.Subject(config.Stream, 7)
	for _, headers := range []string{
		"Nats-Sequence: 1\r\nNats-Subject: " + config.Control + "\r\nNats-Time-Stamp: 2018-12-01T00:00:00Z\r\nNats-Last-Sequence: 0\r\n\r\n", // another event
		"Status: 204\r\nNats-Last-Sequence: 1\r\nNats-Num-Pending: 0\r\n\r\n",                                                                // the end
		strings.Repeat("a:\n", 60) + "Nats-Sequence: 3\nNats-Subject: " + config.Control + "\n\n",                                            // as long as what it hides
		"nothing that is a header\r\n",
	} {
		publish(t, s, subject, "NATS/1.0\r\n"+headers+"a: b\r\n\r\n", "viltots")
	}
	want := func(what string, got []eventstore.Recorded, err error) {
		t.Helper()
		if err != nil || len(got) != 4 {
			t.Fatalf("%s: %d events, %v", what, len(got), err)
		}
		for i, e := range got {
			if e.Sequence != uint64(i+1) || e.Subject != subject || string(e.Data) != "viltots" || time.Since(e.Time) > time.Hour {
				t.Errorf("%s: event %d is %+v", what, i+1, e)
			}
		}
	}
	var all []eventstore.Recorded
	err := eventstore.WithSubjects{Ledger: ledger}.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
		all = append(all, batch...)
		return nil
	})
	want("replay", all, err)
	history, err := ledger.History(t.Context(), subject, 0, eventstore.AnyReplica)
	want("history", history, err)
	if last, found, err := ledger.Last(t.Context(), subject, eventstore.AnyReplica); err != nil || !found || last.Sequence != 4 || last.Subject != subject {
		t.Errorf("last: %+v, %v, %v", last, found, err)
	}
	if last, found, err := ledger.Last(t.Context(), config.Control, eventstore.AnyReplica); err != nil || found {
		t.Errorf("last of the control subject: %+v, %v", last, err)
	}
}

// publish stores a message with headers that no client library would send.
func publish(t *testing.T, s *storetest.Server, subject, headers, data string) {
	t.Helper()
	address, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT {\"headers\":true,\"verbose\":false}\r\nSUB svars 1\r\nHPUB %s svars %d %d\r\n%s%s\r\n", subject, len(headers), len(headers)+len(data), headers, data)
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"seq"`) {
			return
		}
	}
	t.Fatalf("a message was not stored: %v", lines.Err())
}
