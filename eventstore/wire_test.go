package eventstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// TestForgedAnswers: whoever learns of a reply subject may publish to it. What
// has no place in the exchange must not get to who counts on the index.
func TestForgedAnswers(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	w, err := newWire(nc)
	if err != nil {
		t.Fatal(err)
	}
	e := w.exchange(3)
	defer e.end()
	for _, index := range []string{"3", "-1", "99999999999999999999", "", "viens", "1.2"} {
		if err := nc.Publish(e.reply+index, []byte("viltots")); err != nil && index != "" {
			t.Fatal(err)
		}
	}
	if err := nc.Publish(e.replyTo(2), []byte("īsts")); err != nil {
		t.Fatal(err)
	}
	a, err := e.next(t.Context())
	if err != nil || a.index != 2 || string(a.msg.Data) != "īsts" {
		t.Errorf("the first answer is %d, %v, %v", a.index, a.msg, err)
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}

// TestBrokenConnections: what the operating system or a pipe says of a connection
// that has just been lost passes, for the client connects again.
func TestBrokenConnections(t *testing.T) {
	l := &Ledger{ctx: context.Background()}
	for _, broken := range []error{
		fmt.Errorf("io: %w", io.ErrClosedPipe),
		&net.OpError{Op: "write", Net: "tcp", Err: net.ErrClosed},
		&net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)},
		&net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.ECONNRESET)},
	} {
		reads := 0
		err := l.retryRead(t.Context(), func(context.Context) error {
			if reads++; reads == 1 {
				return broken
			}
			return nil
		})
		if err != nil || reads != 2 {
			t.Errorf("%v: %d reads, %v", broken, reads, err)
		}
		if err := reachable(broken); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v is told as %v", broken, err)
		}
	}
}
