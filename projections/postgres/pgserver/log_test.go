package pgserver

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestLogLines(t *testing.T) {
	log := newProgramLog("postgres", discard)
	for _, part := range []string{"LOG:  sāk", "as\r\nLOG:  ", "vēl\n\nLOG:  database system is ready", " to accept connections\nLOG:  bez beigām"} {
		if _, err := io.WriteString(log, part); err != nil {
			t.Fatal(err)
		}
	}
	<-log.ready
	log.flush()
	log.flush()
	want := []string{"LOG:  sākas", "LOG:  vēl", "", "LOG:  " + readyLine, "LOG:  bez beigām"}
	if got := log.lines(); !slices.Equal(got, want) {
		t.Errorf("lines %q; want %q", got, want)
	}
}

func TestLogIsBounded(t *testing.T) {
	log := newProgramLog("postgres", discard)
	for range 3 * tailLinesMax {
		for range 3 {
			if _, err := io.WriteString(log, strings.Repeat("š", lineBytesMax/2-1)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.WriteString(log, "\n"+readyLine+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	lines := log.lines()
	if len(lines) != tailLinesMax {
		t.Errorf("%d lines are kept", len(lines))
	}
	for _, line := range lines {
		if len(line) > lineBytesMax+len("\uFFFD") {
			t.Errorf("a line of %d bytes is kept", len(line))
		}
	}
}

func TestReason(t *testing.T) {
	for _, test := range []struct {
		log  []string
		want string
	}{
		{nil, "the Postgres server on /d did not start (beigas)"},
		{[]string{"a", "b", "c", "d"}, "the Postgres server on /d did not start (beigas): b; c; d"},
		{
			[]string{"FATAL:  agrāk", "FATAL:  nav vietas", "DETAIL:  x", "HINT:  Atbrīvo vietu.", "LOG:  beidz"},
			"the Postgres server on /d did not start (beigas): nav vietas (Atbrīvo vietu.)",
		},
	} {
		e := &ServerError{Dir: "/d", Action: "start", Log: test.log, Err: errors.New("beigas")}
		if e.Error() != test.want {
			t.Errorf("%q; want %q", e.Error(), test.want)
		}
	}
}
