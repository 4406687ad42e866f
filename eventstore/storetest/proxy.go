package storetest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between clients and a server and can lose what passes, as a
// network does that fails at the worst moment.
type Proxy struct {
	server   string
	listener net.Listener
	done     sync.WaitGroup

	mu           sync.Mutex // guards what follows
	connections  map[net.Conn]net.Conn
	dropRequests bool
	dropAnswers  bool
}

// NewProxy starts a proxy to the server's address (host:port). It ends with
// the test.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{server: server, listener: listener, connections: make(map[net.Conn]net.Conn)}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.Cut()
		p.done.Wait()
	})
	return p
}

// URL is where clients connect. They must ignore the addresses that the server
// tells them.
func (p *Proxy) URL() string { return "nats://" + p.listener.Addr().String() }

// DropRequests loses what clients send from now on, until the next Cut.
func (p *Proxy) DropRequests() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropRequests = true
}

// DropAnswers loses what the server sends from now on, until the next Cut.
func (p *Proxy) DropAnswers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropAnswers = true
}

// Cut breaks all connections; new ones work.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.connections {
		client.Close()
		server.Close()
	}
	clear(p.connections)
	p.dropRequests, p.dropAnswers = false, false
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed by the end of the test
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close() // a server that is down
			continue
		}
		p.mu.Lock()
		p.connections[client] = server
		p.mu.Unlock()
		p.done.Go(func() { p.pass(server, client, &p.dropRequests) })
		p.done.Go(func() { p.pass(client, server, &p.dropAnswers) })
	}
}

// pass copies from one side to the other until one of them ends.
func (p *Proxy) pass(to io.WriteCloser, from io.ReadCloser, drop *bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		dropped := *drop
		p.mu.Unlock()
		if n > 0 && !dropped {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
