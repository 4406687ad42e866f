package postgres_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// fate is what becomes of a COMMIT.
type fate int

const (
	passed   fate = iota // as if there were no proxy
	unsent               // the connection breaks before the server gets it
	unheard              // the server answers, and the answer is lost
	belated              // the connection breaks, and the server gets it later
	fatesEnd             // the number of fates
)

// proxy stands between a projector and Postgres. It knows just enough of the
// protocol to see a COMMIT, and can break the connection around it.
type proxy struct {
	server   string
	listener net.Listener
	done     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	links   map[net.Conn]net.Conn
	decide  func() fate // for each COMMIT; nil: all pass
	refuse  bool        // new connections
	release func()      // sends the COMMIT that was held back, if there is one
	counts  [fatesEnd]int
}

// newProxy starts a proxy to the server in a URL, and returns the URL that
// leads through it. It ends with the test.
func newProxy(t testing.TB, to string) (p *proxy, through string) {
	t.Helper()
	u, err := url.Parse(to)
	check(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p = &proxy{server: u.Host, listener: listener, links: make(map[net.Conn]net.Conn)}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.cut(true)
		p.done.Wait()
	})
	u.Host = listener.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable") // the proxy must read what passes
	u.RawQuery = query.Encode()
	return p, u.String()
}

// set chooses the fate of every COMMIT to come.
func (p *proxy) set(decide func() fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decide = decide
}

// cut breaks all connections; refuse says whether new ones break too.
func (p *proxy) cut(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.links {
		client.Close()
		server.Close()
	}
	clear(p.links)
	p.refuse = refuse
}

// seen is how many COMMITs had which fate.
func (p *proxy) seen() [fatesEnd]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed by the end of the test
		}
		server, err := net.Dial("tcp", p.server)
		p.mu.Lock()
		if err != nil || p.refuse {
			client.Close()
			if err == nil {
				server.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.links[client] = server
		p.mu.Unlock()
		link := &link{proxy: p, client: client, server: server}
		p.done.Go(link.requests)
		p.done.Go(link.answers)
	}
}

// fate decides about one COMMIT.
func (p *proxy) fate() fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := passed
	if p.decide != nil {
		f = p.decide()
	}
	p.counts[f]++
	return f
}

// link is one connection of a client.
type link struct {
	proxy          *proxy
	client, server net.Conn

	mu   sync.Mutex
	deaf bool // the next answer is lost, and the connection with it; guarded by mu
}

// The messages that matter, as pgx sends them.
var (
	commitMessage = []byte("Q\x00\x00\x00\x0bcommit\x00")
	beginMessage  = []byte("Q\x00\x00\x00\x0abegin\x00")
)

func (l *link) requests() {
	defer l.client.Close()
	held := false
	defer func() {
		if !held {
			l.server.Close()
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buffer)
		data := buffer[:n]
		if bytes.Equal(data, beginMessage) {
			l.proxy.sendHeld()
		}
		if bytes.Equal(data, commitMessage) {
			switch l.proxy.fate() {
			case unsent:
				return
			case belated:
				held = true
				l.proxy.hold(l.server)
				return
			case unheard:
				l.mu.Lock()
				l.deaf = true
				l.mu.Unlock()
			}
		}
		if n > 0 {
			if _, err := l.server.Write(data); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) answers() {
	defer l.client.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buffer)
		l.mu.Lock()
		deaf := l.deaf
		l.mu.Unlock()
		if deaf || err != nil {
			return
		}
		if _, err := l.client.Write(buffer[:n]); err != nil {
			_, _ = io.Copy(io.Discard, l.server) // until the server's end is closed
			return
		}
	}
}

// hold keeps a COMMIT until the next transaction begins: the projector has
// asked for the position by then, and has not moved it yet.
func (p *proxy) hold(server net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release = func() {
		_, _ = server.Write(commitMessage)
		// The server reads what has arrived before it sees the end.
		_ = server.Close()
	}
}

func (p *proxy) sendHeld() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.release != nil {
		p.release()
		p.release = nil
	}
}
