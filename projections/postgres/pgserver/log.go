package pgserver

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

const (
	// tailLinesMax is how many lines of a server's log are kept for errors.
	tailLinesMax = 30
	// lineBytesMax is how much of a line is kept, in bytes.
	lineBytesMax = 4096
	// reasonLinesMax is how many last lines an error repeats when PostgreSQL
	// has not said which of them is the reason.
	reasonLinesMax = 3
)

// readyLine is what the postmaster logs when it accepts connections.
const readyLine = "database system is ready to accept connections"

// programLog is what a program writes while it runs. It passes lines on to a
// logger and remembers the last ones.
type programLog struct {
	program string
	logger  *slog.Logger
	ready   chan struct{} // closed after readyLine

	mu      sync.Mutex
	partial []byte   // a line whose end has not come yet; guarded by mu
	tail    []string // guarded by mu
}

func newProgramLog(program string, logger *slog.Logger) *programLog {
	return &programLog{program: program, logger: logger, ready: make(chan struct{})}
}

// Write takes a part of the log. It never fails.
func (l *programLog) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := data; len(rest) > 0; {
		line, after, complete := bytes.Cut(rest, []byte("\n"))
		l.partial = append(l.partial, line[:min(len(line), lineBytesMax-len(l.partial))]...)
		if complete {
			l.endLine()
		}
		rest = after
	}
	return len(data), nil
}

// flush ends the last line when no more will come.
func (l *programLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) > 0 {
		l.endLine()
	}
}

// endLine files the line that is complete. The caller holds mu.
func (l *programLog) endLine() {
	line := strings.TrimRight(strings.ToValidUTF8(string(l.partial), "\uFFFD"), "\r")
	l.partial = l.partial[:0]
	l.logger.Log(context.Background(), level(line), l.program, "line", line)
	if len(l.tail) == tailLinesMax {
		l.tail = slices.Delete(l.tail, 0, 1)
	}
	l.tail = append(l.tail, line)
	if strings.Contains(line, readyLine) {
		select {
		case <-l.ready: // A server says it again when a session's crash made it restart.
		default:
			close(l.ready)
		}
	}
}

// level tells what matters to who runs the server from what is told to those
// who sent a statement.
func level(line string) slog.Level {
	severity, _, _ := strings.Cut(line, ":")
	switch severity {
	case "FATAL", "PANIC":
		return slog.LevelError
	case "WARNING", "ERROR":
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// lines are the last lines of the log.
func (l *programLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.tail)
}

// ServerError is a failure of PostgreSQL itself.
type ServerError struct {
	Dir    string   // of the server
	Action string   // what it did not do, such as "start"
	Log    []string // the last lines of its log
	Err    error    // how it ended, or why nobody waited any longer
}

// Error is one sentence with what PostgreSQL gave as the reason.
func (e *ServerError) Error() string {
	sentence := "the Postgres server on " + e.Dir + " did not " + e.Action + " (" + e.Err.Error() + ")"
	if reason := e.Reason(); reason != "" {
		sentence += ": " + reason
	}
	return sentence
}

func (e *ServerError) Unwrap() error { return e.Err }

// Reason is the last fatal message of the log with its hint, or the last lines
// if there is none.
func (e *ServerError) Reason() string {
	for i, line := range slices.Backward(e.Log) {
		severity, message, _ := strings.Cut(line, ":")
		if severity != "FATAL" && severity != "PANIC" {
			continue
		}
		reason := strings.TrimSpace(message)
		for _, more := range e.Log[i+1:] {
			if hint, ok := strings.CutPrefix(more, "HINT:"); ok {
				reason += " (" + strings.TrimSpace(hint) + ")"
			}
		}
		return reason
	}
	return lastLines(e.Log)
}

// lastLines are what an error repeats of a log without a clear reason.
func lastLines(log []string) string {
	return strings.Join(log[max(0, len(log)-reasonLinesMax):], "; ")
}

// portTaken reports whether somebody else listens on the server's port.
func (e *ServerError) portTaken() bool { return e.says("Address already in use") }

// lingering reports whether processes of a crashed server have not ended yet.
func (e *ServerError) lingering() bool { return e.says("pre-existing shared memory block") }

func (e *ServerError) says(text string) bool {
	return slices.ContainsFunc(e.Log, func(line string) bool { return strings.Contains(line, text) })
}
