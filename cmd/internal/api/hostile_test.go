package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// hurry shortens the times of a front, so that a test sees them end.
func hurry(s *http.Server) {
	s.ReadHeaderTimeout, s.ReadTimeout = 200*time.Millisecond, 400*time.Millisecond
	s.WriteTimeout, s.IdleTimeout = 4*time.Second, 300*time.Millisecond
}

// closedBy waits until the server has closed the connection, and returns what
// it said before.
func closedBy(t testing.TB, c *wire) []byte {
	t.Helper()
	check(t, c.SetReadDeadline(time.Now().Add(patience)))
	said, err := io.ReadAll(c.in)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the connection is still open after %v", patience)
	}
	return said
}

// drip sends a text byte by byte until the server has had enough.
func drip(c *wire, text string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range len(text) {
		<-tick.C
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return
		}
	}
}

// TestSlowHead: who takes his time with the head of a request is cut off.
func TestSlowHead(t *testing.T) {
	d := newDesk(t)
	addr := d.front(t, hurry)
	for name, send := range map[string]func(*wire){
		"silent":        func(*wire) {},
		"half a line":   func(c *wire) { io.WriteString(c, "GET /api") },
		"half a head":   func(c *wire) { io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n") },
		"byte by byte":  func(c *wire) { drip(c, d.smuggled(), 20*time.Millisecond) },
		"idle":          func(c *wire) { io.WriteString(c, d.smuggled()) },
		"second broken": func(c *wire) { io.WriteString(c, d.smuggled()+"GET /") },
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			go send(c) // it ends when the connection does
			closedBy(t, c)
		})
	}
}

// TestSlowBody: who takes his time with the body is told so.
func TestSlowBody(t *testing.T) {
	d := newDesk(t)
	addr := d.front(t, hurry)
	head := d.posted(goodBody, isJSON)[:len(d.posted(goodBody, isJSON))-len(goodBody)]
	inChunks := d.postedInChunks(goodBody, 1)
	for name, send := range map[string]func(*wire){
		"no body":           func(c *wire) { io.WriteString(c, head) },
		"half a body":       func(c *wire) { io.WriteString(c, head+goodBody[:30]) },
		"byte by byte":      func(c *wire) { io.WriteString(c, head); drip(c, goodBody, 20*time.Millisecond) },
		"chunk by chunk":    func(c *wire) { io.WriteString(c, inChunks[:len(inChunks)-40]) },
		"without its end":   func(c *wire) { io.WriteString(c, inChunks[:len(inChunks)-5]) },
		"without the break": func(c *wire) { io.WriteString(c, inChunks[:len(inChunks)-2]) }, // which net/http takes for a broken trailer
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			go send(c)
			r, err := c.answer(http.MethodPost)
			check(t, err)
			conforms(t, described().of("POST", "/api/v1/campaigns/x/votes"), "POST", r)
			want := api.RequestTimeout
			if name == "without the break" {
				want = api.Malformed
			}
			refused(t, r, want)
			closedBy(t, c)
		})
	}
	if n := len(d.votes()); n != 0 {
		t.Errorf("%d votes came of it", n)
	}
}

// TestSlowReader: who does not read his answers is cut off, and holds up
// nobody.
func TestSlowReader(t *testing.T) {
	d := newDesk(t)
	for i := range 1000 {
		_, err := d.intake.SetSpecialist(t.Context(), fmt.Sprintf("s%d", i), domain.Profile{Name: fmt.Sprintf("Vārds %d", i), Institution: "Nodarbinātības valsts aģentūra"})
		check(t, err)
	}
	d.later()
	addr := d.front(t, hurry, func(s *http.Server) { s.WriteTimeout = 300 * time.Millisecond })
	c := dial(t, addr)
	check(t, c.Conn.(*net.TCPConn).SetReadBuffer(4<<10))
	page := d.head("GET " + base + "/" + campaign + "/specialists?limit=1000 HTTP/1.1")
	const pages = 200 // 20 MB, more than any buffers between us
	for range pages {
		if _, err := io.WriteString(c, page); err != nil {
			break // it has cut us off
		}
	}
	d.ask(vote(anna, "ilze-berzina", "k1")).receipt(t)
	if said := closedBy(t, c); bytes.Count(said, []byte("HTTP/1.1 200 OK")) >= pages {
		t.Error("all answers waited for who did not read them")
	}
}

// TestHalfOpen: a client that has ended its side still gets its answer.
func TestHalfOpen(t *testing.T) {
	d := newDesk(t)
	answers := converse(t, dial(t, d.front(t)), d.posted(goodBody, isJSON), http.MethodPost)
	if len(answers) != 1 {
		t.Fatalf("%d answers", len(answers))
	}
	// net/http takes the end of a side for a client that has gone; the vote is
	// there or not, and the answer says which.
	unknown := answers[0].status >= http.StatusInternalServerError && answers[0].problem(t).Code == api.OutcomeUnknown
	if votes := len(d.votes()); !unknown && (answers[0].status == http.StatusCreated) != (votes == 1) {
		t.Errorf("%d votes, and the answer is %d %s", votes, answers[0].status, answers[0].body)
	}
}

// TestGone: a client that hangs up before, while or after its vote is recorded
// leaves it there once or not at all, and a retry with its key gets one receipt.
func TestGone(t *testing.T) {
	text := func(d *desk) string { return d.posted(goodBody, isJSON, "Idempotency-Key: k1") }
	for _, reset := range []bool{false, true} {
		for _, when := range []string{"before", "while", "after"} {
			t.Run(fmt.Sprintf("%s, reset %v", when, reset), func(t *testing.T) {
				d := newDesk(t)
				entered, open := make(chan struct{}), make(chan struct{})
				var once sync.Once
				d.ledger.SetFaults(storetest.Faults{Append: func(eventstore.Message, uint64) storetest.Fault {
					if when == "while" {
						once.Do(func() { close(entered); <-open })
					}
					return storetest.None
				}})
				c := dial(t, d.addr())
				if reset {
					check(t, c.Conn.(*net.TCPConn).SetLinger(0))
				}
				switch when {
				case "before":
					io.WriteString(c, text(d)[:len(text(d))-10])
				case "while":
					io.WriteString(c, text(d))
					<-entered
				case "after":
					r, err := c.ask(text(d))
					check(t, err)
					r.receipt(t)
				}
				c.Close()
				close(open)
				d.finished(t, 1)
				want := map[string]int{"before": 0, "while": 1, "after": 1}[when]
				if n := len(d.votes()); n != want {
					t.Errorf("%d votes", n)
				}
				retry := d.ask(vote("lv-pk:010180-12345", "ilze-berzina", "k1"))
				retry.receipt(t)
				same(t, retry, d.ask(vote("lv-pk:010180-12345", "ilze-berzina", "k1")))
				if n := len(d.votes()); n != 1 {
					t.Errorf("%d votes after the retry", n)
				}
			})
		}
	}
}

// finished waits until so many requests were logged: then they have ended.
func (k *worker) finished(t testing.TB, n int) {
	t.Helper()
	storetest.Eventually(t, "the requests have ended", func() bool {
		return bytes.Count([]byte(k.logged.String()), []byte(`"msg":"request"`)) >= n
	})
}

// TestLargeBodies: 100 MB are refused without being read or kept, by many at a
// time.
func TestLargeBodies(t *testing.T) {
	const size, clients = 100 << 20, 8
	d := newDesk(t)
	addr := d.front(t)
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			head := d.head("POST "+base+"/"+campaign+"/votes HTTP/1.1", isJSON, fmt.Sprintf("Content-Length: %d", size))
			if i%2 == 1 {
				head = d.head("POST "+base+"/"+campaign+"/votes HTTP/1.1", isJSON, "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n", size)
			}
			d.pour(t, addr, head, size)
		})
	}
	all.Wait()
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	const allowed = 16 << 20 // what the test itself takes, with room
	if grown := after.TotalAlloc - before.TotalAlloc; grown > allowed {
		t.Errorf("%d bodies of %d MB took %d MB of memory", clients, size>>20, grown>>20)
	}
}

// pour sends a body of spaces while it waits for the answer.
func (d *desk) pour(t *testing.T, addr, head string, size int) {
	c := dial(t, addr)
	poured := make(chan int64, 1)
	go func() {
		io.WriteString(c, head)
		n, _ := io.Copy(c.Conn, io.LimitReader(spaces{}, int64(size)))
		poured <- n
	}()
	r, err := c.answer(http.MethodPost)
	if r.status == 0 {
		t.Error(err)
		return
	}
	refused(t, r, api.BodyTooLarge)
	closedBy(t, c)
	c.Close()
	if n := <-poured; n >= int64(size) {
		t.Errorf("all %d bytes were taken", n)
	}
}

// spaces are without end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
