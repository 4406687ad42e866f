package api_test

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/netutil"
)

// front is an HTTP server with the limits of the one that `paldies intake`
// runs; a test may shorten its times. It returns the address.
func (k *worker) front(t testing.TB, change ...func(*http.Server)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	k.serve(t, listener, change...)
	return listener.Addr().String()
}

// serve serves a listener until the test ends.
func (k *worker) serve(t testing.TB, listener net.Listener, change ...func(*http.Server)) {
	t.Helper()
	const maxConnections = 8192
	s := &http.Server{
		Handler:           k.api,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.NewJSONHandler(k.logged, &slog.HandlerOptions{Level: slog.LevelDebug}), slog.LevelWarn),
	}
	for _, f := range change {
		f(s)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(netutil.LimitListener(listener, maxConnections)) }()
	t.Cleanup(func() {
		check(t, s.Close())
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}
